#include "batch.hpp"

namespace taper {

bool Batch::may_pass(std::string_view client) const {
  if (client_s.find(client) != client_s.end()) return false;
  double all_s = 0.0;
  for (const auto& [name, seconds] : client_s) all_s += seconds;
  const auto passed = passed_s.find(client);
  const double own_s = passed == passed_s.end() ? 0.0 : passed->second;
  return own_s < all_s / static_cast<double>(client_s.size());
}

void Batch::passed(std::string_view client, double seconds) {
  passed_s[std::string(client)] += seconds;
}

}  // namespace taper
