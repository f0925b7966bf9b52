// Binary 3x3 layers with a coefficient for each channel, over a vector type V.
//
// With a coefficient per channel, a byte must hold eight taps of one channel instead of one tap of
// eight channels, so that its popcount can be multiplied by the channel's coefficient. The map's
// bits are therefore transposed first, once for all outputs. Internal linkage: see conv.hpp.
#pragma once

#include <cstring>

#include "conv.hpp"

namespace taper {
namespace {

// Byte i, bit j of the result is byte j, bit i of `bits`.
inline std::uint64_t transpose8x8(std::uint64_t bits) {
  std::uint64_t swap = (bits ^ (bits >> 7)) & 0x00AA00AA00AA00AAu;
  bits ^= swap ^ (swap << 7);
  swap = (bits ^ (bits >> 14)) & 0x0000CCCC0000CCCCu;
  bits ^= swap ^ (swap << 14);
  swap = (bits ^ (bits >> 28)) & 0x00000000F0F0F0F0u;
  return bits ^ swap ^ (swap << 28);
}

// Moves bits 0..3 of `bits` to the low bits of four bytes.
inline std::uint32_t spread4(std::uint32_t bits) {
  return (bits & 15u) * 0x00204081u & 0x01010101u;
}

// Where a row of needed pixels comes from, and the place of its first word in `eight` and `ninth`.
struct TapRow {
  const std::uint8_t* words;
  std::ptrdiff_t row;  // words from row to row of the input
  std::size_t to;
  bool two;  // the plane has two quads
};

inline TapRow tap_row(const TapColumnsJob& job, int plane, int y) {
  const std::ptrdiff_t row = job.input.width + 1;
  const auto* words = static_cast<const std::uint8_t*>(job.input.words);
  return {words + plane * job.input.stride + y * job.row_step * row, row,
          2 * plane * job.step + static_cast<std::size_t>(y) * job.input.width,
          2 * plane + 1 < job.quads};
}

// Fills `eight` and `ninth` for a row of pixels of one plane, one at a time.
inline void gather_row(const TapColumnsJob& job, int plane, int y) {
  const TapRow from = tap_row(job, plane, y);
  for (std::ptrdiff_t p = 0; p < job.input.width; ++p) {
    std::uint32_t rows[3];
    for (int r = 0; r < 3; ++r) std::memcpy(&rows[r], from.words + p + r * from.row, sizeof rows[r]);
    const std::uint64_t taps = transpose8x8((rows[0] & 0xFFFFFFu) |
                                            std::uint64_t{rows[1] & 0xFFFFFFu} << 24 |
                                            std::uint64_t{rows[2] & 0xFFFFu} << 48);
    const std::uint32_t last = rows[2] >> 16 & 0xFFu;
    const std::size_t at = from.to + p;
    job.eight[at] = static_cast<std::uint32_t>(taps);
    job.ninth[at] = spread4(last);
    if (from.two) {
      job.eight[at + job.step] = static_cast<std::uint32_t>(taps >> 32);
      job.ninth[at + job.step] = spread4(last >> 4);
    }
  }
}

template <class V>
void run_tap_columns(const TapColumnsJob& job) {
  for (int plane = 0; plane < job.input.planes; ++plane) {
    for (int y = 0; y < job.height; ++y) V::gather(job, plane, y);
  }
}

template <class V, bool TwoBits>
void count_taps(const TapsJob& job) {
  using R = typename V::R;
  constexpr int kAtOnce = 4;
  constexpr int kLanes = V::kBytes / 4;
  const std::ptrdiff_t block = std::ptrdiff_t{job.quads} * kAtOnce;
  for (std::ptrdiff_t p = 0; p < job.pixels; p += kLanes) {
    const std::uint32_t* w = job.weights;
    const std::uint32_t* last = job.ninth_weights;
    auto* reached = static_cast<std::uint32_t*>(job.reached.words) + p;
    std::uint32_t* low_reached = reached + job.reached.planes * job.reached.stride;
    for (int first = 0; first < job.outputs; first += 32) {
      const int rest = job.outputs - first;
      const int count = rest < 32 ? rest : 32;
      R word = V::zero();
      R low_word = V::zero();
      for (int i = 0; i < count; i += kAtOnce, w += block, last += block) {
        R sum[kAtOnce] = {V::zero(), V::zero(), V::zero(), V::zero()};
        for (int q = 0; q < job.quads; ++q) {
          const R eight = V::load(job.eight + q * job.step + p);
          const R ninth = V::load(job.ninth + q * job.step + p);
          const R coefficients = V::splat(job.coefficients[q]);
          for (int j = 0; j < kAtOnce; ++j) {
            const int at = q * kAtOnce + j;
            const R counts = V::template add<std::uint8_t>(
                V::popcount8(V::exclusive(eight, V::splat(w[at]))),
                V::exclusive(ninth, V::splat(last[at])));
            sum[j] = V::template dot<std::uint32_t>(sum[j], counts, coefficients);
          }
        }
        for (int j = 0; j < kAtOnce; ++j) {
          word = V::template set_below<std::uint32_t>(word, sum[j], job.limits + first + i + j,
                                                      bits_of<std::uint32_t>() + i + j);
          if constexpr (TwoBits) {
            low_word =
                V::template set_below<std::uint32_t>(low_word, sum[j], job.low_limits + first + i + j,
                                                     bits_of<std::uint32_t>() + i + j);
          }
        }
      }
      V::store(reached, word);
      if constexpr (TwoBits) V::store(low_reached, low_word);
      reached += job.reached.stride;
      low_reached += job.reached.stride;
    }
  }
}

template <class V>
void run_taps(const TapsJob& job) {
  if (job.low_limits == nullptr) {
    count_taps<V, false>(job);
  } else {
    count_taps<V, true>(job);
  }
}

}  // namespace
}  // namespace taper
