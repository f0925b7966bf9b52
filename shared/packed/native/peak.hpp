// Measures the peak rate of binary multiply-accumulates of a vector type V, for comparison in a
// benchmark: exclusive-or, popcount of bytes and addition in registers, without loads or stores.
// Internal linkage: see conv.hpp.
#pragma once

#include "conv.hpp"

namespace taper {
namespace {

// Runs `rounds` rounds and returns their number of binary multiply-accumulates.
template <class V>
double run_peak(long rounds) {
  using R = typename V::R;
  constexpr int kChains = 12;  // enough to hide the latency of the three operations
  R chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = V::splat(0x9E3779B9u * static_cast<unsigned>(i + 1));
  const R weights = V::splat(0x5A5AC3C3u);
  for (long round = 0; round < rounds; ++round) {
    for (int i = 0; i < kChains; ++i) {
      const R count = V::popcount8(V::exclusive(chains[i], weights));
      chains[i] = V::template add<std::uint8_t>(chains[i], count);
    }
  }
  R all = V::zero();
  for (const R& chain : chains) all = V::exclusive(all, chain);
  volatile std::int32_t keep = V::total(all);
  static_cast<void>(keep);
  return static_cast<double>(rounds) * kChains * V::kBytes * 8;
}

}  // namespace
}  // namespace taper
