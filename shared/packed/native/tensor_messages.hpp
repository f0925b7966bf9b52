// Messages of the Open Inference Protocol (protos/inference/open_inference.proto) as bytes, as far as
// requests with whole images need them, without protobuf's library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace taper {

// A ModelInferRequest with one input `image` of UINT8 and its raw contents. The views point into the
// message that was read.
struct ImageRequest {
  std::string_view model;
  std::string_view version;
  std::string_view id;
  std::vector<std::uint64_t> shape;
  std::string_view pixels;
  std::vector<bool> wants_probabilities;  // for each output in order, or else the label; none: both
};

// Reads a serialised ModelInferRequest. Nothing if it is none, or holds anything else, right or wrong:
// parameters, other inputs, types and outputs, an output twice, text that is not ASCII.
std::optional<ImageRequest> read_image_request(std::string_view data);

// What a ModelInferResponse says besides its outputs.
struct ImageResponseHead {
  std::string_view model;
  std::string_view version;
  std::string_view id;
  std::uint32_t cloud_level;
};

// A serialised ModelInferResponse for logits (samples, classes): of each sample the label with the
// largest logit (the lowest of equal ones) and the softmax, as `wants_probabilities` asks for them.
std::string write_image_response(const ImageResponseHead& head,
                                 const std::vector<bool>& wants_probabilities, const float* logits,
                                 std::size_t samples, std::size_t classes);

}  // namespace taper
