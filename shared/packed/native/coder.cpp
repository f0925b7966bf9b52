#include "coder.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace taper {
namespace {

constexpr std::uint32_t kLeastRange = 1u << 24;
constexpr std::uint64_t kWord = 0xffffffff;
constexpr std::int16_t kLargestActivation = 127;
constexpr int kLogitShift = 5;
constexpr std::int32_t kLargestBias = 1 << 30;
constexpr std::size_t kMostValues = std::size_t(1) << 24;

// The number that ends a stream: the one in [low, low + range) with the fewest bytes, at most 4.
struct Tail {
  std::uint64_t value;  // 33 bits: the top one is a carry
  int bytes;
};

Tail shortest_tail(std::uint32_t low, std::uint32_t range) {
  const std::uint64_t last = std::uint64_t(low) + range - 1;
  for (int bytes = 0; bytes < 4; ++bytes) {
    const std::uint64_t value = last >> (32 - 8 * bytes) << (32 - 8 * bytes);
    if (value >= low) return {value, bytes};
  }
  return {last, 4};
}

class Encoder {
 public:
  explicit Encoder(std::size_t limit) : limit_(limit) { out_.reserve(std::min<std::size_t>(limit, 4096)); }

  void put(bool bit, std::uint32_t probability) {
    // Masks instead of a branch on the bit, which would often be mispredicted.
    const std::uint32_t bound = (range_ >> 16) * probability;
    const std::uint32_t zero = std::uint32_t(bit) - 1;  // all ones for a 0
    low_ += bound & zero;
    range_ = (bound ^ zero) + ((range_ + 1) & zero);  // bound, or range - bound
    while (range_ < kLeastRange) {
      settle();
      out_.push_back(static_cast<std::uint8_t>(low_ >> 24));
      low_ = low_ << 8 & kWord;
      range_ <<= 8;
    }
  }

  bool too_long() const { return out_.size() >= limit_; }

  bool finish() {
    settle();
    const Tail tail = shortest_tail(static_cast<std::uint32_t>(low_), range_);
    if (tail.value >> 32) carry();
    for (int i = 0; i < tail.bytes; ++i) {
      out_.push_back(static_cast<std::uint8_t>(tail.value >> (24 - 8 * i)));
    }
    return !too_long();
  }

  std::vector<std::uint8_t> take() { return std::move(out_); }

 private:
  // Moves the bits of low_ beyond its word into the written bytes.
  void settle() {
    if (low_ >> 32) carry();
    low_ &= kWord;
  }

  // The written number is below 1, so a carry always finds a byte that is not 255.
  void carry() {
    std::size_t at = out_.size();
    while (at > 0 && ++out_[--at] == 0) {
    }
  }

  std::size_t limit_;
  std::vector<std::uint8_t> out_;
  std::uint64_t low_ = 0;
  std::uint32_t range_ = std::numeric_limits<std::uint32_t>::max();
};

class Decoder {
 public:
  Decoder(const std::uint8_t* payload, std::size_t size) : payload_(payload), size_(size) {
    for (int i = 0; i < 4; ++i) ahead_ = ahead_ << 8 | next();
  }

  bool get(std::uint32_t probability) {
    const std::uint32_t bound = (range_ >> 16) * probability;
    const bool bit = ahead_ < bound;
    const std::uint32_t zero = std::uint32_t(bit) - 1;
    low_ += bound & zero;
    ahead_ -= bound & zero;
    range_ = (bound ^ zero) + ((range_ + 1) & zero);
    while (range_ < kLeastRange) {
      ahead_ = ahead_ << 8 | next();
      low_ <<= 8;
      range_ <<= 8;
    }
    return bit;
  }

  // An encoder leaves out at most 4 bytes; a payload that lacks more was cut off.
  bool too_short() const { return read_ > size_ + 4; }

  // Whether the payload is what the encoder would have written: the same number with the same
  // length.
  bool finished() const {
    const Tail tail = shortest_tail(low_, range_);
    return read_ - 4 + static_cast<std::size_t>(tail.bytes) == size_ &&
           ahead_ == static_cast<std::uint32_t>(tail.value - low_);
  }

 private:
  std::uint32_t next() {
    const std::size_t at = read_++;
    return at < size_ ? payload_[at] : 0;
  }

  const std::uint8_t* payload_;
  std::size_t size_;
  std::size_t read_ = 0;
  std::uint32_t low_ = 0;
  std::uint32_t range_ = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t ahead_ = 0;  // the number that was read minus the low end of the range
};

// Bits as masks, all ones for 1, with a border of zeros above, left and right.
class Map {
 public:
  explicit Map(const CoderSpec& spec)
      : channels_(static_cast<std::size_t>(spec.channels)),
        row_((static_cast<std::size_t>(spec.width) + 2) * channels_),
        masks_((static_cast<std::size_t>(spec.height) + 1) * row_, 0) {}

  std::int16_t* pixel(std::size_t y, std::size_t x) {
    return masks_.data() + (y + 1) * row_ + (x + 1) * channels_;
  }
  std::size_t row() const { return row_; }

 private:
  std::size_t channels_;
  std::size_t row_;
  std::vector<std::int16_t> masks_;
};

template <int kHidden>
void add_masked(std::int16_t* sums, const std::int16_t* weights, std::int16_t mask) {
  for (int i = 0; i < kHidden; ++i) {
    sums[i] = static_cast<std::int16_t>(sums[i] + (weights[i] & mask));
  }
}

template <int kHidden>
std::uint32_t probability_of(const CoderSpec& spec, const std::int16_t* sums, std::size_t channel) {
  const std::int16_t* weights = spec.output.data() + channel * kHidden;
  std::int32_t logit = 0;
  for (int i = 0; i < kHidden; ++i) {
    const std::int16_t active =
        std::min<std::int16_t>(std::max<std::int16_t>(sums[i], 0), kLargestActivation);
    logit += active * weights[i];
  }
  const std::int32_t place = ((logit + spec.bias[channel]) >> kLogitShift) + kProbabilities / 2;
  return spec.probability[static_cast<std::size_t>(std::clamp(place, 0, kProbabilities - 1))];
}

// Visits the bits of one sample in order; `code(probability)` codes one bit and returns it. kAhead
// is for decoding, where a bit is known only afterwards: the next probability is computed for both
// of its values in the meantime, so that it need not wait for the bit.
template <int kHidden, bool kAhead, class Code>
void walk(const CoderSpec& spec, Map& map, Code code) {
  const std::size_t channels = static_cast<std::size_t>(spec.channels);
  const std::size_t width = static_cast<std::size_t>(spec.width);
  const std::size_t height = static_cast<std::size_t>(spec.height);
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      std::int16_t* here = map.pixel(y, x);
      const std::int16_t* above = here - map.row();
      const std::int16_t* near[kNeighbours] = {here - channels, above, above - channels,
                                               above + channels};
      std::int16_t sums[kHidden];
      std::memcpy(sums, spec.base.data() + (y * width + x) * kHidden, sizeof sums);
      const std::int16_t* weights = spec.neighbour.data();
      for (const std::int16_t* masks : near) {
        for (std::size_t c = 0; c < channels; ++c, weights += kHidden) {
          add_masked<kHidden>(sums, weights, masks[c]);
        }
      }
      std::uint32_t next[2] = {probability_of<kHidden>(spec, sums, 0), 0};
      bool bit = false;
      for (std::size_t c = 0; c < channels; ++c) {
        const std::int16_t* row = spec.channel.data() + c * kHidden;
        const std::uint32_t probability = next[bit];
        if (kAhead && c + 1 < channels) {
          std::int16_t with[kHidden];
          for (int i = 0; i < kHidden; ++i) with[i] = static_cast<std::int16_t>(sums[i] + row[i]);
          next[0] = probability_of<kHidden>(spec, sums, c + 1);
          next[1] = probability_of<kHidden>(spec, with, c + 1);
        }
        bit = code(probability);
        here[c] = static_cast<std::int16_t>(-std::int16_t(bit));
        add_masked<kHidden>(sums, row, here[c]);
        if (!kAhead && c + 1 < channels) {
          next[0] = next[1] = probability_of<kHidden>(spec, sums, c + 1);
        }
      }
    }
  }
}

template <bool kAhead, class Code>
void walk_any(const CoderSpec& spec, Map& map, Code code) {
  switch (spec.hidden) {
    case 8: return walk<8, kAhead>(spec, map, code);
    case 16: return walk<16, kAhead>(spec, map, code);
    case 24: return walk<24, kAhead>(spec, map, code);
    case 32: return walk<32, kAhead>(spec, map, code);
    case 40: return walk<40, kAhead>(spec, map, code);
    case 48: return walk<48, kAhead>(spec, map, code);
    case 56: return walk<56, kAhead>(spec, map, code);
    default: return walk<64, kAhead>(spec, map, code);
  }
}

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("coder: ") + what);
}

// Checks that no sum of a hidden unit can exceed 16 bits, whatever the bits are.
bool sums_fit(const CoderSpec& spec) {
  const std::size_t hidden = static_cast<std::size_t>(spec.hidden);
  for (std::size_t unit = 0; unit < hidden; ++unit) {
    std::int64_t base = 0;
    for (std::size_t i = unit; i < spec.base.size(); i += hidden) {
      base = std::max<std::int64_t>(base, std::abs(int(spec.base[i])));
    }
    std::int64_t reach = base;
    for (std::size_t i = unit; i < spec.neighbour.size(); i += hidden) {
      reach += std::abs(int(spec.neighbour[i]));
    }
    for (std::size_t i = unit; i < spec.channel.size(); i += hidden) {
      reach += std::abs(int(spec.channel[i]));
    }
    if (reach > std::numeric_limits<std::int16_t>::max()) return false;
  }
  return true;
}

void check(const CoderSpec& spec) {
  require(spec.height > 0 && spec.width > 0 && spec.channels > 0, "a side is not positive");
  require(spec.height < (1 << 16) && spec.width < (1 << 16) && spec.channels < (1 << 16),
          "a side is too large");
  require(spec.hidden >= kHiddenStep && spec.hidden <= kMostHidden &&
              spec.hidden % kHiddenStep == 0,
          "hidden must be 8 to 64 in steps of 8");
  const std::size_t pixels = static_cast<std::size_t>(spec.height) * spec.width;
  const std::size_t channels = static_cast<std::size_t>(spec.channels);
  const std::size_t hidden = static_cast<std::size_t>(spec.hidden);
  require(pixels * channels <= kMostValues, "the map is too large");
  require(spec.base.size() == pixels * hidden, "base must be (height * width, hidden)");
  require(spec.neighbour.size() == kNeighbours * channels * hidden,
          "neighbour must be (4 * channels, hidden)");
  require(spec.channel.size() == channels * hidden, "channel must be (channels, hidden)");
  require(spec.output.size() == channels * hidden, "output must be (channels, hidden)");
  require(spec.bias.size() == channels, "bias must be (channels)");
  require(spec.probability.size() == kProbabilities, "probability must have 1024 values");
  for (std::uint16_t p : spec.probability) require(p > 0, "a probability is 0");
  for (std::int32_t b : spec.bias) {
    require(b >= -kLargestBias && b <= kLargestBias, "a bias is too large");
  }
  require(sums_fit(spec), "sums do not fit 16 bits");
}

}  // namespace

ContextCoder::ContextCoder(CoderSpec spec) : spec_(std::move(spec)) {
  check(spec_);
  const std::size_t pixels = static_cast<std::size_t>(spec_.height) * spec_.width;
  sample_bytes_ = (pixels * static_cast<std::size_t>(spec_.channels) + 7) / 8;
}

std::optional<std::vector<std::uint8_t>> ContextCoder::encode(const std::uint8_t* packed,
                                                              std::size_t samples,
                                                              std::size_t limit) const {
  Map map(spec_);
  Encoder encoder(limit);
  for (std::size_t s = 0; s < samples; ++s) {
    const std::uint8_t* sample = packed + s * sample_bytes_;
    std::size_t at = 0;
    walk_any<false>(spec_, map, [&](std::uint32_t probability) {
      const bool bit = sample[at / 8] >> (at % 8) & 1;
      ++at;
      encoder.put(bit, probability);
      return bit;
    });
    if (encoder.too_long()) return std::nullopt;
  }
  if (!encoder.finish()) return std::nullopt;
  return encoder.take();
}

bool ContextCoder::decode(const std::uint8_t* payload, std::size_t size, std::size_t samples,
                          std::uint8_t* packed) const {
  ContextDecoder decoder(*this, payload, size);
  return decoder.next(samples, packed) && decoder.finished();
}

struct ContextDecoder::State {
  Map map;
  Decoder decoder;
};

ContextDecoder::ContextDecoder(const ContextCoder& coder, const std::uint8_t* payload,
                               std::size_t size)
    : coder_(coder), state_(new State{Map(coder.spec()), Decoder(payload, size)}) {}

ContextDecoder::~ContextDecoder() = default;

bool ContextDecoder::next(std::size_t samples, std::uint8_t* packed) {
  const std::size_t sample_bytes = coder_.sample_bytes();
  Decoder& decoder = state_->decoder;
  std::memset(packed, 0, samples * sample_bytes);
  for (std::size_t s = 0; s < samples && !decoder.too_short(); ++s) {
    std::uint8_t* sample = packed + s * sample_bytes;
    std::size_t at = 0;
    walk_any<true>(coder_.spec(), state_->map, [&](std::uint32_t probability) {
      const bool bit = decoder.get(probability);
      sample[at / 8] = static_cast<std::uint8_t>(sample[at / 8] | int(bit) << (at % 8));
      ++at;
      return bit;
    });
  }
  return !decoder.too_short();
}

bool ContextDecoder::finished() const { return state_->decoder.finished(); }

}  // namespace taper
