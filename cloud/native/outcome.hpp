// The outcome of a request.
#pragma once

#include <cstdint>
#include <string>

namespace taper {

// The gRPC status codes that a scheduler uses.
enum class Status : int {
  kOk = 0,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kResourceExhausted = 8,
  kInternal = 13,
  kUnavailable = 14,
};

// The serialised response to a request, or the status and message of its failure.
struct Outcome {
  Status status = Status::kOk;
  std::string response;              // set with kOk
  std::string message;               // set with any other status
  std::uint32_t retry_after_ms = 0;  // set with kResourceExhausted and kUnavailable; 0 if unknown
  std::uint64_t id = 0;              // the request's
};

// A serialised InferResponse with the failure of `outcome`, for streams.
std::string failure_response(const Outcome& outcome);

}  // namespace taper
