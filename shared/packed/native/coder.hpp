// A context-model entropy coder for maps of bits: a small integer network predicts the probability
// of every bit from the bits before it, and a range coder codes the bit with that probability.
//
// Model: NADE (Larochelle, Murray: "The Neural Autoregressive Distribution Estimator", 2011) over
// the channels of a pixel, with the weights of the neighbours shared over all pixels as in PixelCNN
// (van den Oord et al., 2016). Coder: Martin, "Range encoding" (1979), in the binary form of LZMA
// with 32-bit range and 16-bit probabilities. shared/protocol/context_model.py is the reference in
// Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace taper {

// The neighbours of a pixel whose bits are the context: left, up, up-left, up-right.
constexpr int kNeighbours = 4;
constexpr int kHiddenStep = 8;
constexpr int kMostHidden = 64;
constexpr int kProbabilities = 1024;

struct CoderSpec {
  int height;
  int width;
  int channels;
  int hidden;                               // a multiple of kHiddenStep
  std::vector<std::int16_t> base;           // (height * width, hidden)
  std::vector<std::int16_t> neighbour;      // (kNeighbours * channels, hidden)
  std::vector<std::int16_t> channel;        // (channels, hidden)
  std::vector<std::int16_t> output;         // (channels, hidden)
  std::vector<std::int32_t> bias;           // (channels)
  std::vector<std::uint16_t> probability;   // (kProbabilities): that of a 1, in units of 1/65536
};

// Immutable, so that any number of threads may use one at the same time.
class ContextCoder {
 public:
  // Throws std::invalid_argument for inconsistent sizes and for sums that could overflow.
  explicit ContextCoder(CoderSpec spec);

  // Encodes packed samples of sample_bytes each. Nothing if that takes `limit` bytes or more.
  std::optional<std::vector<std::uint8_t>> encode(const std::uint8_t* packed, std::size_t samples,
                                                  std::size_t limit) const;

  // Decodes a payload into `packed` (samples * sample_bytes). False if the payload is not exactly
  // what `encode` returns for some samples; the contents of `packed` are then undefined.
  bool decode(const std::uint8_t* payload, std::size_t size, std::size_t samples,
              std::uint8_t* packed) const;

  std::size_t sample_bytes() const { return sample_bytes_; }

  const CoderSpec& spec() const { return spec_; }

 private:
  CoderSpec spec_;
  std::size_t sample_bytes_;
};

// Decodes a payload a few samples at a time. The coder and the payload must outlive the decoder.
// For one thread at a time.
class ContextDecoder {
 public:
  ContextDecoder(const ContextCoder& coder, const std::uint8_t* payload, std::size_t size);
  ~ContextDecoder();

  // Decodes the next `samples` into `packed`. False if the payload is too short for any samples.
  bool next(std::size_t samples, std::uint8_t* packed);

  // Whether the payload is exactly what `encode` returns for the samples that were read.
  bool finished() const;

 private:
  struct State;
  const ContextCoder& coder_;
  std::unique_ptr<State> state_;
};

}  // namespace taper
