#include "outcome.hpp"

#include "wire.hpp"

namespace taper {

std::string failure_response(const Outcome& outcome) {
  std::string failure;
  put_number(failure, 1, static_cast<std::uint64_t>(outcome.status));
  if (!outcome.message.empty()) put_bytes(failure, 2, outcome.message);
  put_number(failure, 3, outcome.retry_after_ms);
  std::string response;
  put_number(response, 1, outcome.id);
  put_bytes(response, 6, failure);
  return response;
}

}  // namespace taper
