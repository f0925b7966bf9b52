#include "prepare.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace taper {
namespace {

constexpr int kTapsAtOnce = 4;  // number of outputs that the taps kernel computes together

int round_up(int value, int step) { return (value + step - 1) / step * step; }

std::uint32_t repeat(std::uint32_t word, Lane lane) {
  switch (lane) {
    case Lane::k8:
      return (word & 0xFFu) * 0x01010101u;
    case Lane::k16:
      return (word & 0xFFFFu) * 0x00010001u;
    case Lane::k32:
      return word;
  }
  return word;
}

// The sign of the weight of (output, tap, channel): true is +1.
class Signs {
 public:
  Signs(const Stage& stage, int taps)
      : bytes_(stage.weight.data()),
        channels_(stage.in_channels),
        row_bytes_((static_cast<std::size_t>(taps) * stage.in_channels + 7) / 8) {}

  bool operator()(int output, std::size_t tap, int channel) const {
    const std::size_t bit = tap * channels_ + channel;
    return bytes_[output * row_bytes_ + bit / 8] >> (bit % 8) & 1;
  }

 private:
  const std::uint8_t* bytes_;
  std::size_t channels_;
  std::size_t row_bytes_;
};

bool constant_in_bytes(const std::vector<std::int32_t>& coefficients, int channels) {
  for (int c = 0; c < channels; ++c) {
    if (coefficients[c] != coefficients[c / 8 * 8]) return false;
  }
  return true;
}

// The coefficients of four bytes from channel `first` on, `step` channels apart.
std::uint32_t four_coefficients(const Stage& stage, int channels, int first, int step) {
  std::uint32_t word = 0;
  for (int i = 0; i < 4; ++i) {
    const int c = first + i * step;
    if (c < channels) word |= static_cast<std::uint32_t>(stage.coefficients[c]) << (8 * i);
  }
  return word;
}

// The narrowest words that hold the channels and the largest weighted count. 16-bit words are also
// chosen if they waste less than 32-bit words.
Lane lane_for(int channels, std::int64_t largest_count) {
  if (channels <= 8 && largest_count <= std::numeric_limits<std::int8_t>::max()) return Lane::k8;
  const bool saves = planes_for(channels, Lane::k16) < 2 * planes_for(channels, Lane::k32);
  return saves && largest_count < std::numeric_limits<std::int16_t>::max() ? Lane::k16 : Lane::k32;
}

void prepare_image(const Stage& stage, Weights& weights) {
  const Signs sign(stage, kTaps);
  const int channels = stage.in_channels;
  weights.path = Path::kImage;
  weights.lane = 255 * kTaps * channels <= std::numeric_limits<std::int16_t>::max() ? Lane::k16
                                                                                    : Lane::k32;
  for (int o = 0; o < stage.out_channels; ++o) {
    for (int c = 0; c < channels; ++c) {
      for (int row = 0; row < 3; ++row) {
        int pattern = 0;  // of the negated sum
        for (int i = 0; i < 3; ++i) pattern |= !sign(o, row * 3 + i, c) << i;
        weights.patterns.push_back(static_cast<std::uint16_t>((c * 3 + row) * 8 + pattern));
      }
    }
  }
}

void prepare_count(const Stage& stage, Weights& weights) {
  const Signs sign(stage, kTaps);
  const int n = weights.channels;
  const auto first = stage.coefficients.begin();
  const bool equal = std::all_of(first, first + n, [&](auto c) { return c == *first; });
  weights.path = Path::kCount;
  weights.common = equal ? *first : 0;
  weights.lane = lane_for(n, equal ? weights.input_bits * kTaps * n : weights.total);
  const int bits = lane_bits(weights.lane);
  const int of_one_bit = planes_for(n, weights.lane);
  weights.planes = weights.input_bits * of_one_bit;
  for (int k = 0; !equal && k < weights.planes; ++k) {
    const int begin = k % of_one_bit * bits;
    const std::uint32_t word = four_coefficients(stage, std::min(n, begin + bits), begin, 8);
    weights.coefficients.push_back(repeat(word, weights.lane));
  }
  weights.words.reserve(static_cast<std::size_t>(stage.out_channels) * weights.planes * kTaps);
  for (int o = 0; o < stage.out_channels; ++o) {
    for (int k = 0; k < weights.planes; ++k) {
      const int begin = k % of_one_bit * bits;
      for (int t = 0; t < kTaps; ++t) {
        std::uint32_t word = 0;
        for (int c = begin; c < std::min(n, begin + bits); ++c) {
          word |= static_cast<std::uint32_t>(sign(o, t, c)) << (c - begin);
        }
        weights.words.push_back(repeat(word, weights.lane));
      }
    }
  }
}

void prepare_taps(const Stage& stage, Weights& weights) {
  const Signs sign(stage, kTaps);
  const int n = weights.channels;
  const int of_one_bit = planes_for(n, Lane::k8);
  // The planes of the second bit start at a new quad.
  const int quads = weights.input_bits == 1 ? (n + 3) / 4 : 2 * weights.input_bits * of_one_bit;
  const auto first_channel = [&](int quad) { return quad % (2 * of_one_bit) * 4; };
  const int outputs = round_up(stage.out_channels, kTapsAtOnce);
  weights.path = Path::kTaps;
  weights.lane = Lane::k8;
  weights.planes = weights.input_bits * of_one_bit;
  for (int q = 0; q < quads; ++q) {
    weights.coefficients.push_back(four_coefficients(stage, n, first_channel(q), 1));
  }
  for (int block = 0; block < outputs; block += kTapsAtOnce) {
    for (int q = 0; q < quads; ++q) {
      for (int o = block; o < block + kTapsAtOnce; ++o) {
        std::uint32_t word = 0;
        std::uint32_t ninth = 0;
        for (int i = 0; i < 4; ++i) {
          const int c = first_channel(q) + i;
          if (o >= stage.out_channels || c >= n) continue;
          for (int t = 0; t < 8; ++t) {
            word |= static_cast<std::uint32_t>(sign(o, t, c)) << (8 * i + t);
          }
          ninth |= static_cast<std::uint32_t>(sign(o, 8, c)) << (8 * i);
        }
        weights.words.push_back(word);
        weights.ninth.push_back(ninth);
      }
    }
  }
}

void prepare_linear(const Stage& stage, int height, int width, Weights& weights) {
  const Signs sign(stage, weights.taps);
  const int n = weights.channels;
  weights.path = Path::kLinear;
  weights.lane = lane_for(n, 0);
  const int of_one_bit = planes_for(n, weights.lane);
  weights.planes = weights.input_bits * of_one_bit;
  const int bits = lane_bits(weights.lane);
  const bool by_byte = constant_in_bytes(stage.coefficients, n);
  const std::int32_t largest =
      *std::max_element(stage.coefficients.begin(), stage.coefficients.begin() + n);
  for (weights.mask_bits = 0; !by_byte && largest >> weights.mask_bits;) ++weights.mask_bits;
  weights.masks.assign(static_cast<std::size_t>(weights.mask_bits) * weights.planes, 0);
  for (int k = 0; k < weights.planes; ++k) {
    const int begin = k % of_one_bit * bits;
    const int last = std::min(n, begin + bits);
    if (by_byte) {
      const std::uint32_t word = four_coefficients(stage, last, begin, 8);
      weights.coefficients.push_back(repeat(word, weights.lane));
    }
    for (int b = 0; b < weights.mask_bits; ++b) {
      std::uint32_t mask = 0;
      for (int c = begin; c < last; ++c) {
        mask |= static_cast<std::uint32_t>(stage.coefficients[c] >> b & 1) << (c - begin);
      }
      weights.masks[b * weights.planes + k] = repeat(mask, weights.lane);
    }
  }
  const std::size_t plane_bytes = map_stride(height, width, weights.lane, false) * (bits / 8);
  weights.bytes.assign(plane_bytes * weights.planes * stage.out_channels, 0);
  for (int o = 0; o < stage.out_channels; ++o) {
    for (int k = 0; k < weights.planes; ++k) {
      const int begin = k % of_one_bit * bits;
      std::uint8_t* plane =
          weights.bytes.data() + plane_bytes * (static_cast<std::size_t>(o) * weights.planes + k);
      for (int t = 0; t < weights.taps; ++t) {
        for (int c = begin; c < std::min(n, begin + bits); ++c) {
          const std::size_t bit = static_cast<std::size_t>(t) * bits + (c - begin);
          plane[bit / 8] |= static_cast<std::uint8_t>(sign(o, t, c) << (bit % 8));
        }
      }
    }
  }
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

}  // namespace

int lane_bits(Lane lane) { return static_cast<int>(lane); }

int planes_for(int channels, Lane lane) {
  return (channels + lane_bits(lane) - 1) / lane_bits(lane);
}

std::size_t map_stride(int height, int width, Lane lane, bool padded) {
  const std::size_t word = lane_bits(lane) / 8;
  const std::size_t row = width + 1;
  std::size_t words = std::size_t(height) * width + kMapSlackWords;
  if (padded) {  // the last vector also reads the next two rows
    words = std::size_t(height) * row + kVectorBytes / word + 2 * row + 2 + kMapSlackWords;
  }
  return (words * word + kVectorBytes - 1) / kVectorBytes * kVectorBytes / word;
}

Weights make_weights(const Stage& stage, int height, int width, int channels, int input_bits) {
  Weights weights{};
  weights.channels = channels;
  weights.input_bits = input_bits;
  weights.taps = stage.kind == Kind::kBinaryLinear ? height * width : kTaps;
  for (int c = 0; c < channels; ++c) weights.total += stage.coefficients[c];
  weights.total *= std::int64_t{input_bits} * weights.taps;
  if (stage.kind == Kind::kImageConv) {
    prepare_image(stage, weights);
  } else if (stage.kind == Kind::kBinaryLinear) {
    prepare_linear(stage, height, width, weights);
  } else if (constant_in_bytes(stage.coefficients, channels)) {
    prepare_count(stage, weights);
  } else {
    prepare_taps(stage, weights);
  }
  return weights;
}

std::vector<std::uint32_t> make_limits(const Weights& weights, const std::int32_t* thresholds,
                                       int outputs) {
  const bool taps = weights.path == Path::kTaps;
  std::vector<std::uint32_t> limits;
  for (int o = 0; o < outputs; ++o) {
    const std::int64_t threshold = thresholds[o];
    std::int64_t limit = 0;
    if (weights.path == Path::kImage) {  // sum >= threshold is -sum < 1 - threshold
      const std::int64_t most = 255 * kTaps * static_cast<std::int64_t>(weights.channels);
      limit = std::clamp<std::int64_t>(1 - threshold, -most, most + 1);
    } else if (weights.path == Path::kCount && weights.coefficients.empty()) {
      // common * (count of all - 2 * disagreeing) >= threshold
      const std::int64_t most = std::int64_t{kTaps} * weights.channels * weights.input_bits;
      if (weights.common == 0) {
        limit = threshold <= 0 ? most + 1 : 0;
      } else {
        limit = 1 + floor_divide(weights.common * most - threshold, 2 * weights.common);
      }
      limit = std::clamp<std::int64_t>(limit, 0, most + 1);
    } else {  // total - 2 * disagreeing >= threshold
      limit = 1 + floor_divide(weights.total - threshold, 2);
      limit = std::clamp<std::int64_t>(limit, 0, weights.total + 1);
    }
    limits.push_back(repeat(static_cast<std::uint32_t>(limit), taps ? Lane::k32 : weights.lane));
  }
  // The taps kernel computes up to three outputs more; their bits must stay 0.
  while (taps && limits.size() % kTapsAtOnce != 0) limits.push_back(0);
  return limits;
}

std::vector<std::uint32_t> make_flips(const std::uint8_t* flips, int outputs, Lane lane) {
  const int bits = lane_bits(lane);
  std::vector<std::uint32_t> words(planes_for(outputs, lane), 0);
  for (int o = 0; o < outputs; ++o) {
    words[o / bits] |= static_cast<std::uint32_t>(flips[o] != 0) << (o % bits);
  }
  return words;
}

}  // namespace taper
