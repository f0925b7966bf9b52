// The split protocol's messages (protos/split/v1/split.proto) as bytes, without protobuf's library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace taper {

// The `looks` of a request: what the client can do and has done before.
struct Looks {
  std::uint32_t earlier = 0;
  std::uint32_t next_level = 0;
  std::optional<std::uint64_t> ask_below;
};

// The request for another look at some samples; an empty list means all.
struct More {
  std::uint32_t level = 0;
  std::uint32_t keep_ms = 0;
  std::vector<std::uint32_t> samples;
};

// An InferRequest. The views point into the message that was read.
struct InferRequest {
  std::uint64_t id = 0;
  std::string_view model;
  std::string_view version;
  std::uint32_t level = 0;
  std::uint32_t encoding = 0;
  std::uint32_t samples = 0;
  std::string_view payload;
  std::optional<std::uint32_t> cloud_level;
  std::uint32_t top_k = 0;
  std::optional<Looks> looks;
};

// Parses a serialised InferRequest. Nothing if it is not one, or if it contains what is left to
// protobuf's library: groups, field 0, text that is not ASCII.
std::optional<InferRequest> read_request(std::string_view data);

// The fields of an InferResponse besides its results.
struct ResponseHead {
  std::uint64_t id = 0;
  std::uint32_t cloud_level = 0;
  std::uint32_t queue_us = 0;
  std::uint32_t compute_us = 0;
  std::optional<float> load;                      // there are hints
  std::optional<std::uint32_t> suggested_level;   // one of the hints
  std::optional<More> more;
};

// The difference between the largest and the second largest logit, in units of 1 / 2^20, rounded
// down. With a single class, the largest number.
std::uint64_t margin_of(const float* logits, std::size_t classes);

// A serialised InferResponse for logits (samples, classes). It has for each sample the label with
// the largest logit, and the `top_k` most probable labels with their softmax; among equal ones the
// lower label comes first.
std::string write_response(const ResponseHead& head, const float* logits, std::size_t samples,
                           std::size_t classes, std::size_t top_k);

}  // namespace taper
