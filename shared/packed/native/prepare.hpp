// Converts a bundle's tensors to the words and limits that kernels read, once when a half is made.
#pragma once

#include <cstdint>
#include <vector>

#include "jobs.hpp"

namespace taper {

enum class Kind : std::uint8_t { kImageConv, kBinaryConv, kBinaryLinear };

// One stage of a bundle; for the shapes see shared/model/bundle.py.
struct Stage {
  Kind kind;
  int in_channels;
  int out_channels;
  int pool;
  int stride;  // above 1 only for a convolution without a pool
  std::vector<std::uint8_t> weight;
  std::vector<std::int32_t> coefficients;
  std::vector<std::int32_t> threshold;
  std::vector<std::uint8_t> flip;
  std::vector<float> scale;
  std::vector<float> bias;
  std::vector<std::int32_t> low_threshold;  // the lower bit of a ternary stage

  bool ternary() const { return !low_threshold.empty(); }
  bool gives_logits() const { return !scale.empty(); }

  // The height or width of the stage's output, given that of its input.
  int side_after(int side) const {
    if (kind == Kind::kBinaryLinear) return 1;
    return stride > 1 ? (side + stride - 1) / stride : side / pool;
  }
};

// How the sums of a stage are computed; chosen by the coefficients of the channels in use.
enum class Path : std::uint8_t {
  kImage,   // sign patterns of pixel rows
  kCount,   // one coefficient for each byte of channels, or one for all
  kTaps,    // a coefficient for each channel
  kLinear,  // whole map
};

// A stage's weights for its leading `channels` input channels, all outputs.
struct Weights {
  Path path;
  Lane lane;       // of the input map, or of the sums of an image stage
  int channels;
  int input_bits;  // bits per channel: 2 after a ternary stage, else 1
  int planes;      // planes of the input map, of all input bits
  int taps;        // positions of the kernel
  int common = 0;  // kCount: the coefficient of all channels, or 0 if `coefficients` holds them
  std::int64_t total = 0;  // the sum if all bits agree: input_bits * taps * sum of the coefficients
  int mask_bits = 0;
  std::vector<std::uint32_t> words;
  std::vector<std::uint32_t> coefficients;
  std::vector<std::uint32_t> ninth;
  std::vector<std::uint32_t> masks;
  std::vector<std::uint16_t> patterns;
  std::vector<std::uint8_t> bytes;     // kLinear
};

int lane_bits(Lane lane);
int planes_for(int channels, Lane lane);

// The words from plane to plane of a map: a multiple of the widest vector, with room for the last
// load.
std::size_t map_stride(int height, int width, Lane lane, bool padded);

// height and width of the stage's input map; `channels` of its input channels take part, with
// `input_bits` bits each.
Weights make_weights(const Stage& stage, int height, int width, int channels, int input_bits);

// Computes the limits of the first `outputs` outputs from a row of thresholds.
std::vector<std::uint32_t> make_limits(const Weights& weights, const std::int32_t* thresholds,
                                       int outputs);

// Packs the first `outputs` flips of a row into words of `lane`.
std::vector<std::uint32_t> make_flips(const std::uint8_t* flips, int outputs, Lane lane);

}  // namespace taper
