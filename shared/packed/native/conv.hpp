// Binary 3x3 layers over a vector type V, written once for every instruction set.
//
// Everything here has internal linkage, because each kernels_*.cpp is compiled for another
// instruction set: the linker could merge a shared function into the version that this CPU cannot
// run.
#pragma once

#include "jobs.hpp"

namespace taper {
namespace {

// Row `log2(word bits) - 3`: bit i of a word, repeated to fill 32 bits.
struct BitTable {
  std::uint32_t word[3][32];
};

constexpr BitTable make_bits() {
  BitTable table{};
  for (int i = 0; i < 32; ++i) {
    table.word[0][i] = 0x01010101u << (i % 8);
    table.word[1][i] = 0x00010001u << (i % 16);
    table.word[2][i] = 1u << i;
  }
  return table;
}

constexpr BitTable kBits = make_bits();

template <class T>
constexpr int kWordBits = static_cast<int>(sizeof(T) * 8);

template <class T>
constexpr const std::uint32_t* bits_of() {
  return kBits.word[sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : 2];
}

// The number of disagreeing bits of nine taps in every byte (0 to 72).
template <class V>
inline typename V::R count_bytes(const typename V::R* x, const std::uint32_t* w) {
  using R = typename V::R;
  if constexpr (V::kFastPopcount) {
    R a = V::popcount8(V::exclusive(x[0], V::splat(w[0])));
    R b = V::popcount8(V::exclusive(x[1], V::splat(w[1])));
    for (int t = 2; t < kTaps; ++t) {
      const R count = V::popcount8(V::exclusive(x[t], V::splat(w[t])));
      if (t % 2) {
        b = V::template add<std::uint8_t>(b, count);
      } else {
        a = V::template add<std::uint8_t>(a, count);
      }
    }
    return V::template add<std::uint8_t>(a, b);
  } else {
    // Carry-save adders turn nine bits into one of weight 1, two of weight 2 and one of weight 4.
    R ones[3];
    R twos[3];
    for (int i = 0; i < 3; ++i) {
      const R a = V::exclusive(x[3 * i], V::splat(w[3 * i]));
      const R b = V::exclusive(x[3 * i + 1], V::splat(w[3 * i + 1]));
      const R c = V::exclusive(x[3 * i + 2], V::splat(w[3 * i + 2]));
      const R ab = V::exclusive(a, b);
      ones[i] = V::exclusive(ab, c);
      twos[i] = V::either(V::both(a, b), V::both(ab, c));
    }
    const R p = V::exclusive(ones[0], ones[1]);
    const R q = V::exclusive(twos[0], twos[1]);
    return V::count_saved(V::exclusive(p, ones[2]),
                          V::either(V::both(ones[0], ones[1]), V::both(p, ones[2])),
                          V::exclusive(q, twos[2]),
                          V::either(V::both(twos[0], twos[1]), V::both(q, twos[2])));
  }
}

// The weighted number of disagreeing bits of one plane in each word, added to `sum` unless Fresh.
template <class V, class T, bool Weighted, bool Fresh>
inline typename V::R add_plane(typename V::R sum, const typename V::R* x, const std::uint32_t* w,
                               typename V::R coefficients) {
  using R = typename V::R;
  if constexpr (Weighted) {
    return V::template dot<T>(sum, count_bytes<V>(x, w), coefficients);
  } else if constexpr (V::kWordPopcount) {
    R a = V::template popcount<T>(V::exclusive(x[0], V::splat(w[0])));
    R b = V::template popcount<T>(V::exclusive(x[1], V::splat(w[1])));
    for (int t = 2; t < kTaps; ++t) {
      const R count = V::template popcount<T>(V::exclusive(x[t], V::splat(w[t])));
      if (t % 2) {
        b = V::template add<T>(b, count);
      } else {
        a = V::template add<T>(a, count);
      }
    }
    if constexpr (!Fresh) b = V::template add<T>(b, sum);
    return V::template add<T>(a, b);
  } else {
    return V::template sum<T>(sum, count_bytes<V>(x, w));
  }
}

// What is done with the sums of a vector of pixels.
enum class Sums { kKeep, kOneBit, kTwoBits };

// One or two (K) planes at one vector of pixels. Sums of earlier planes come from `partial`, unless
// First; sums go there for later planes if they are kept, else they become bits.
template <class V, class T, bool Weighted, int K, bool First, Sums Then>
inline void count_planes(const CountJob& job, std::ptrdiff_t p, int plane) {
  using R = typename V::R;
  R x[K][kTaps];
  R coefficients[K];
  for (int k = 0; k < K; ++k) {
    const T* words = static_cast<const T*>(job.input.words) + (plane + k) * job.input.plane + p;
    for (int t = 0; t < kTaps; ++t) {
      x[k][t] = V::load(words + (t / 3) * job.input.row + (t % 3) * job.input.column);
    }
    coefficients[k] = Weighted ? V::splat(job.coefficients[plane + k]) : V::zero();
  }
  const std::uint32_t* w = job.weights + plane * kTaps;
  const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(job.input.planes) * kTaps;
  auto* partial = static_cast<std::uint8_t*>(job.partial);
  auto* reached = static_cast<T*>(job.reached.words) + p;
  T* low_reached = reached + job.reached.planes * job.reached.stride;
  for (int first = 0; first < job.outputs; first += kWordBits<T>) {
    const int rest = job.outputs - first;
    const int count = rest < kWordBits<T> ? rest : kWordBits<T>;
    R word = V::zero();
    R low_word = V::zero();
    for (int i = 0; i < count; ++i, w += step, partial += V::kBytes) {
      R sum = First ? V::zero() : V::load(partial);
      sum = add_plane<V, T, Weighted, First>(sum, x[0], w, coefficients[0]);
      if constexpr (K == 2) {
        sum = add_plane<V, T, Weighted, false>(sum, x[1], w + kTaps, coefficients[1]);
      }
      if constexpr (Then == Sums::kKeep) {
        V::store(partial, sum);
      } else {
        word = V::template set_below<T>(word, sum, job.limits + first + i, bits_of<T>() + i);
      }
      if constexpr (Then == Sums::kTwoBits) {
        low_word =
            V::template set_below<T>(low_word, sum, job.low_limits + first + i, bits_of<T>() + i);
      }
    }
    if constexpr (Then != Sums::kKeep) V::store(reached, word);
    if constexpr (Then == Sums::kTwoBits) V::store(low_reached, low_word);
    reached += job.reached.stride;
    low_reached += job.reached.stride;
  }
}

// All planes at one vector of pixels.
template <class V, class T, bool Weighted, Sums Then>
inline void count_vector(const CountJob& job, std::ptrdiff_t p) {
  constexpr Sums kKeep = Sums::kKeep;
  const int planes = job.input.planes;
  if (planes == 1) return count_planes<V, T, Weighted, 1, true, Then>(job, p, 0);
  if (planes == 2) return count_planes<V, T, Weighted, 2, true, Then>(job, p, 0);
  count_planes<V, T, Weighted, 2, true, kKeep>(job, p, 0);
  int plane = 2;
  for (; plane + 2 < planes; plane += 2) {
    count_planes<V, T, Weighted, 2, false, kKeep>(job, p, plane);
  }
  if (planes - plane == 2) {
    count_planes<V, T, Weighted, 2, false, Then>(job, p, plane);
  } else {
    count_planes<V, T, Weighted, 1, false, Then>(job, p, plane);
  }
}

template <class V, class T, bool Weighted, Sums Then>
void count_map(const CountJob& job) {
  constexpr int kLanes = V::kBytes / static_cast<int>(sizeof(T));
  constexpr int kTailLanes = V::Tail::kBytes / static_cast<int>(sizeof(T));
  std::ptrdiff_t p = 0;
  for (; job.input.pixels - p > kTailLanes; p += kLanes) count_vector<V, T, Weighted, Then>(job, p);
  if (p < job.input.pixels) count_vector<typename V::Tail, T, Weighted, Then>(job, p);
}

template <class V, class T, bool Weighted>
void count_words(const CountJob& job) {
  if (job.low_limits == nullptr) {
    count_map<V, T, Weighted, Sums::kOneBit>(job);
  } else {
    count_map<V, T, Weighted, Sums::kTwoBits>(job);
  }
}

template <class V>
void run_count(const CountJob& job) {
  const bool weighted = job.coefficients != nullptr;
  switch (job.input.lane) {
    case Lane::k8:  // one byte a word has one coefficient
      return count_words<V, std::uint8_t, false>(job);
    case Lane::k16:
      return weighted ? count_words<V, std::uint16_t, true>(job)
                      : count_words<V, std::uint16_t, false>(job);
    case Lane::k32:
      return weighted ? count_words<V, std::uint32_t, true>(job)
                      : count_words<V, std::uint32_t, false>(job);
  }
}

}  // namespace
}  // namespace taper
