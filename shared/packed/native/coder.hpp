// A context-model entropy coder for maps of bits: a small integer network gives the probability of
// every bit from the bits before it, a range coder writes what the network did not foresee.
//
// Model: NADE (Larochelle, Murray: "The Neural Autoregressive Distribution Estimator", 2011) over the
// channels of a pixel, with the weights of the neighbours shared over all pixels as in PixelCNN (van
// den Oord et al., 2016). Coder: Martin, "Range encoding" (1979), in the binary form of LZMA with
// 32-bit range and 16-bit probabilities. shared/protocol/context_model.py says the same in Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace taper {

// Bits before a pixel that are looked at: left, up, up-left, up-right.
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
  std::vector<std::uint16_t> probability;   // (kProbabilities), of a 1, in 1/65536
};

// Immutable once made, so that any number of threads may use one at the same time.
class ContextCoder {
 public:
  // Throws std::invalid_argument for sizes that do not fit and for sums that could overflow.
  explicit ContextCoder(CoderSpec spec);

  // Packed samples, sample_bytes each -> a payload of fewer than `limit` bytes, or nothing.
  std::optional<std::vector<std::uint8_t>> encode(const std::uint8_t* packed, std::size_t samples,
                                                  std::size_t limit) const;

  // Undoes `encode`. False if the payload is not exactly what `encode` gives for some samples;
  // `packed` (samples * sample_bytes) then holds no meaning.
  bool decode(const std::uint8_t* payload, std::size_t size, std::size_t samples,
              std::uint8_t* packed) const;

  std::size_t sample_bytes() const { return sample_bytes_; }

  const CoderSpec& spec() const { return spec_; }

 private:
  CoderSpec spec_;
  std::size_t sample_bytes_;
};

// Undoes `encode` some samples at a time. The coder and the payload must outlive it; for one thread
// at a time.
class ContextDecoder {
 public:
  ContextDecoder(const ContextCoder& coder, const std::uint8_t* payload, std::size_t size);
  ~ContextDecoder();

  // Fills `packed` with the next `samples`. False once bytes are missing that no encoder leaves out.
  bool next(std::size_t samples, std::uint8_t* packed);

  // Whether the payload is exactly what `encode` gives for the samples that were read.
  bool finished() const;

 private:
  struct State;
  const ContextCoder& coder_;
  std::unique_ptr<State> state_;
};

}  // namespace taper
