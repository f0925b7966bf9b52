// Reads and writes the messages of the Open Inference Protocol
// (protos/inference/open_inference.proto) that requests with whole images need, without protobuf's
// library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace taper {

// A ModelInferRequest with one input `image` of type UINT8, given as raw contents. The views point
// into the message that was parsed.
struct ImageRequest {
  std::string_view model;
  std::string_view version;
  std::string_view id;
  std::vector<std::uint64_t> shape;
  std::string_view pixels;
  // For each requested output, in order: true for probabilities, false for labels. Empty: both.
  std::vector<bool> wants_probabilities;
};

// Parses a serialised ModelInferRequest. Nothing if it is not one, or if it contains anything else,
// valid or not: parameters, other inputs, types or outputs, an output twice, text that is not
// ASCII.
std::optional<ImageRequest> read_image_request(std::string_view data);

// The fields of a ModelInferResponse besides its outputs.
struct ImageResponseHead {
  std::string_view model;
  std::string_view version;
  std::string_view id;
  std::uint32_t cloud_level;
};

// A serialised ModelInferResponse for logits (samples, classes). For each sample it has the label
// with the largest logit (the lowest among equal ones) and the softmax, as `wants_probabilities`
// requests.
std::string write_image_response(const ImageResponseHead& head,
                                 const std::vector<bool>& wants_probabilities, const float* logits,
                                 std::size_t samples, std::size_t classes);

}  // namespace taper
