// The kernels on AVX2: popcounts by table look-up of nibbles, after carry-save adders.
#include <immintrin.h>

#include "dispatch.hpp"
#include "table.hpp"

namespace taper {
namespace {

struct Avx2 {
  using R = __m256i;
  using Tail = Avx2;
  static constexpr int kBytes = 32;
  static constexpr bool kFastPopcount = false;
  static constexpr bool kWordPopcount = false;

  static R load(const void* from) { return _mm256_loadu_si256(static_cast<const R*>(from)); }
  static void store(void* to, R value) { _mm256_storeu_si256(static_cast<R*>(to), value); }
  static R zero() { return _mm256_setzero_si256(); }
  static R splat(std::uint32_t word) { return _mm256_set1_epi32(static_cast<int>(word)); }
  static R exclusive(R a, R b) { return _mm256_xor_si256(a, b); }
  static R both(R a, R b) { return _mm256_and_si256(a, b); }
  static R either(R a, R b) { return _mm256_or_si256(a, b); }

  template <class T>
  static R add(R a, R b) {
    if constexpr (sizeof(T) == 1) return _mm256_add_epi8(a, b);
    if constexpr (sizeof(T) == 2) return _mm256_add_epi16(a, b);
    return _mm256_add_epi32(a, b);
  }
  template <class T>
  static R subtract(R a, R b) {
    if constexpr (sizeof(T) == 2) return _mm256_sub_epi16(a, b);
    return _mm256_sub_epi32(a, b);
  }
  template <class T>
  static R set_below(R word, R value, const std::uint32_t* limit, const std::uint32_t* bit) {
    const R bound = splat(*limit);
    R below;
    if constexpr (sizeof(T) == 1) {
      below = _mm256_cmpgt_epi8(bound, value);
    } else if constexpr (sizeof(T) == 2) {
      below = _mm256_cmpgt_epi16(bound, value);
    } else {
      below = _mm256_cmpgt_epi32(bound, value);
    }
    return either(word, both(below, splat(*bit)));
  }

  // `weight` for each 1 in a nibble; repeated for the two halves of a vector.
  static R nibble_table(char weight) {
    const char w1 = weight;
    const char w2 = static_cast<char>(2 * weight);
    const char w3 = static_cast<char>(3 * weight);
    const char w4 = static_cast<char>(4 * weight);
    return _mm256_setr_epi8(0, w1, w1, w2, w1, w2, w2, w3, w1, w2, w2, w3, w2, w3, w3, w4,  //
                            0, w1, w1, w2, w1, w2, w2, w3, w1, w2, w2, w3, w2, w3, w3, w4);
  }
  static R low_nibbles(R x, R table) {
    return _mm256_shuffle_epi8(table, both(x, _mm256_set1_epi8(15)));
  }
  static R weighted(R x, R table) {
    return add<std::uint8_t>(low_nibbles(x, table), low_nibbles(_mm256_srli_epi16(x, 4), table));
  }
  static R popcount8(R x) { return weighted(x, nibble_table(1)); }
  static R count_saved(R ones, R twos, R more_twos, R fours) {
    const R two = nibble_table(2);
    return add<std::uint8_t>(
        add<std::uint8_t>(weighted(ones, nibble_table(1)), weighted(fours, nibble_table(4))),
        add<std::uint8_t>(weighted(twos, two), weighted(more_twos, two)));
  }

  template <class T>
  static R dot(R sum, R counts, R coefficients) {
    const R pairs = _mm256_maddubs_epi16(counts, coefficients);
    if constexpr (sizeof(T) == 2) return _mm256_add_epi16(sum, pairs);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  template <class T>
  static R sum(R sum, R counts) {
    if constexpr (sizeof(T) == 1) return _mm256_add_epi8(sum, counts);
    return dot<T>(sum, counts, _mm256_set1_epi8(1));
  }
  static std::int32_t total(R sum) {
    std::int32_t words[8];
    store(words, sum);
    std::int32_t all = 0;
    for (const std::int32_t word : words) all += word;
    return all;
  }
  static void gather(const TapColumnsJob& job, int plane, int y) { gather_row(job, plane, y); }
};

constexpr Kernels kKernels = make_kernels<Avx2>("avx2");

}  // namespace

const Kernels& avx2_kernels() { return kKernels; }

}  // namespace taper
