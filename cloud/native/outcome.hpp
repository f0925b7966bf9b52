// What came of a request.
#pragma once

#include <cstdint>
#include <string>

namespace taper {

// Status codes of gRPC that a scheduler gives.
enum class Status : int {
  kOk = 0,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kResourceExhausted = 8,
  kInternal = 13,
  kUnavailable = 14,
};

// The serialised response to a request, or why there is none.
struct Outcome {
  Status status = Status::kOk;
  std::string response;              // if kOk
  std::string message;               // else
  std::uint32_t retry_after_ms = 0;  // with kResourceExhausted and kUnavailable, unless 0
  std::uint64_t id = 0;              // of the request
};

// A serialised InferResponse that holds the failure of `outcome`, for streams.
std::string failure_response(const Outcome& outcome);

}  // namespace taper
