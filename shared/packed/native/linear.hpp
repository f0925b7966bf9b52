// Binary layers over a whole map, over a vector type V. Internal linkage: see conv.hpp.
#pragma once

#include "conv.hpp"

namespace taper {
namespace {

template <class V>
void run_linear(const LinearJob& job) {
  using R = typename V::R;
  const std::size_t plane_bytes = job.input.stride * (static_cast<std::size_t>(job.input.lane) / 8);
  const auto* x = static_cast<const std::uint8_t*>(job.input.words);
  const std::uint8_t* w = job.weights;
  for (int output = 0; output < job.outputs; ++output) {
    R sum = V::zero();
    const std::uint8_t* words = x;
    for (int plane = 0; plane < job.input.planes; ++plane) {
      for (std::size_t i = 0; i < plane_bytes; i += V::kBytes) {
        const R differ = V::exclusive(V::load(words + i), V::load(w + i));
        if (job.coefficients != nullptr) {
          sum = V::template dot<std::uint32_t>(sum, V::popcount8(differ),
                                               V::splat(job.coefficients[plane]));
          continue;
        }
        for (int bit = 0; bit < job.mask_bits; ++bit) {
          const R mask = V::splat(job.masks[bit * job.input.planes + plane]);
          sum = V::template dot<std::uint32_t>(sum, V::popcount8(V::both(differ, mask)),
                                               V::splat(0x01010101u << bit));
        }
      }
      words += plane_bytes;
      w += plane_bytes;
    }
    job.counts[output] = V::total(sum);
  }
}

}  // namespace
}  // namespace taper
