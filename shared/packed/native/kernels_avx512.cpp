// The kernels on AVX-512 with popcounts of bytes and words (VPOPCNTDQ, BITALG), byte dot products
// (VNNI), byte permutations (VBMI) and bit matrices (GFNI): Ice Lake, Zen 4 and later.
#include <immintrin.h>

#include "dispatch.hpp"
#include "table.hpp"

namespace taper {
namespace {

// Half of a vector, for the last pixels of a map that fill no more than that.
struct Avx512Half {
  using R = __m256i;
  using Tail = Avx512Half;
  static constexpr int kBytes = 32;
  static constexpr bool kFastPopcount = true;
  static constexpr bool kWordPopcount = true;

  static R load(const void* from) { return _mm256_loadu_si256(static_cast<const R*>(from)); }
  static void store(void* to, R value) { _mm256_storeu_si256(static_cast<R*>(to), value); }
  static R zero() { return _mm256_setzero_si256(); }
  static R splat(std::uint32_t word) { return _mm256_set1_epi32(static_cast<int>(word)); }
  static R exclusive(R a, R b) { return _mm256_xor_si256(a, b); }

  template <class T>
  static R add(R a, R b) {
    if constexpr (sizeof(T) == 1) return _mm256_add_epi8(a, b);
    if constexpr (sizeof(T) == 2) return _mm256_add_epi16(a, b);
    return _mm256_add_epi32(a, b);
  }
  template <class T>
  static R set_below(R word, R value, const std::uint32_t* limit, const std::uint32_t* bit) {
    if constexpr (sizeof(T) == 1) {
      const __mmask32 below = _mm256_cmplt_epi8_mask(value, splat(*limit));
      return _mm256_mask_add_epi8(word, below, word, splat(*bit));
    } else if constexpr (sizeof(T) == 2) {
      const __mmask16 below = _mm256_cmplt_epi16_mask(value, splat(*limit));
      return _mm256_mask_add_epi16(word, below, word, splat(*bit));
    } else {
      const __mmask8 below = _mm256_cmplt_epi32_mask(value, splat(*limit));
      return _mm256_mask_or_epi32(word, below, word, splat(*bit));
    }
  }

  template <class T>
  static R popcount(R x) {
    if constexpr (sizeof(T) == 1) return _mm256_popcnt_epi8(x);
    if constexpr (sizeof(T) == 2) return _mm256_popcnt_epi16(x);
    return _mm256_popcnt_epi32(x);
  }
  static R popcount8(R x) { return _mm256_popcnt_epi8(x); }

  template <class T>
  static R dot(R sum, R counts, R coefficients) {
    if constexpr (sizeof(T) == 2) {
      return _mm256_add_epi16(sum, _mm256_maddubs_epi16(counts, coefficients));
    }
    return _mm256_dpbusd_epi32(sum, counts, coefficients);
  }
};

struct Avx512 {
  using R = __m512i;
  using Tail = Avx512Half;
  static constexpr int kBytes = 64;
  static constexpr bool kFastPopcount = true;
  static constexpr bool kWordPopcount = true;

  static R load(const void* from) { return _mm512_loadu_si512(from); }
  static void store(void* to, R value) { _mm512_storeu_si512(to, value); }
  static R zero() { return _mm512_setzero_si512(); }
  static R splat(std::uint32_t word) { return _mm512_set1_epi32(static_cast<int>(word)); }
  static R exclusive(R a, R b) { return _mm512_xor_si512(a, b); }
  static R both(R a, R b) { return _mm512_and_si512(a, b); }
  static R either(R a, R b) { return _mm512_or_si512(a, b); }

  template <class T>
  static R add(R a, R b) {
    if constexpr (sizeof(T) == 1) return _mm512_add_epi8(a, b);
    if constexpr (sizeof(T) == 2) return _mm512_add_epi16(a, b);
    return _mm512_add_epi32(a, b);
  }
  template <class T>
  static R subtract(R a, R b) {
    if constexpr (sizeof(T) == 2) return _mm512_sub_epi16(a, b);
    return _mm512_sub_epi32(a, b);
  }
  template <class T>
  static R set_below(R word, R value, const std::uint32_t* limit, const std::uint32_t* bit) {
    if constexpr (sizeof(T) == 1) {
      const __mmask64 below = _mm512_cmplt_epi8_mask(value, splat(*limit));
      return _mm512_mask_add_epi8(word, below, word, splat(*bit));
    } else if constexpr (sizeof(T) == 2) {
      const __mmask32 below = _mm512_cmplt_epi16_mask(value, splat(*limit));
      return _mm512_mask_add_epi16(word, below, word, splat(*bit));
    } else {
      const __mmask16 below = _mm512_cmplt_epi32_mask(value, splat(*limit));
      return _mm512_mask_or_epi32(word, below, word, splat(*bit));
    }
  }

  template <class T>
  static R popcount(R x) {
    if constexpr (sizeof(T) == 1) return _mm512_popcnt_epi8(x);
    if constexpr (sizeof(T) == 2) return _mm512_popcnt_epi16(x);
    return _mm512_popcnt_epi32(x);
  }
  static R popcount8(R x) { return _mm512_popcnt_epi8(x); }

  template <class T>
  static R dot(R sum, R counts, R coefficients) {
    if constexpr (sizeof(T) == 2) {
      return _mm512_add_epi16(sum, _mm512_maddubs_epi16(counts, coefficients));
    }
    return _mm512_dpbusd_epi32(sum, counts, coefficients);
  }
  static std::int32_t total(R sum) {
    std::int32_t words[16];
    store(words, sum);
    std::int32_t all = 0;
    for (const std::int32_t word : words) all += word;
    return all;
  }

  // Eight pixels at a time: each gets its eight taps as the rows of a bit matrix, which GFNI
  // transposes by multiplying it with the identity.
  static void gather(const TapColumnsJob& job, int plane, int y) {
    const TapRow from = tap_row(job, plane, y);
    const R identity = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201u));
    const R position = _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7),
                                          _mm512_set1_epi64(0x0101010101010101));
    // Byte 7 - t: tap t within the 16 bytes of its row; GFNI counts the rows of a matrix backwards.
    const R taps = _mm512_add_epi8(position, _mm512_set1_epi64(0x0001021011122021));
    const R last = _mm512_add_epi8(position, _mm512_set1_epi8(0x22));
    for (std::ptrdiff_t p = 0; p < job.input.width; p += 8) {
      const auto* at = from.words + p;
      R rows = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
      rows = _mm512_inserti32x4(
          rows, _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + from.row)), 1);
      rows = _mm512_inserti32x4(
          rows, _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 2 * from.row)), 2);
      const R eight =
          _mm512_gf2p8affine_epi64_epi8(identity, _mm512_permutexvar_epi8(taps, rows), 0);
      const R ninth = _mm512_maskz_set1_epi8(
          _mm512_test_epi8_mask(_mm512_permutexvar_epi8(last, rows), identity), 1);
      const std::size_t to = from.to + p;
      store_low(job.eight + to, eight);
      store_low(job.ninth + to, ninth);
      if (from.two) {
        store_low(job.eight + to + job.step, _mm512_srli_epi64(eight, 32));
        store_low(job.ninth + to + job.step, _mm512_srli_epi64(ninth, 32));
      }
    }
  }
  static void store_low(std::uint32_t* to, R words) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi64_epi32(words));
  }
};

constexpr Kernels kKernels = make_kernels<Avx512>("avx512");

}  // namespace

const Kernels& avx512_kernels() { return kKernels; }

}  // namespace taper
