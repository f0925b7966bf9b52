// The kernels on Arm NEON, baseline aarch64: popcounts of bytes, widening multiplications.
#include <arm_neon.h>

#include "dispatch.hpp"
#include "table.hpp"

namespace taper {
namespace {

struct Neon {
  using R = uint8x16_t;
  using Tail = Neon;
  static constexpr int kBytes = 16;
  static constexpr bool kFastPopcount = true;
  static constexpr bool kWordPopcount = false;

  static R load(const void* from) { return vld1q_u8(static_cast<const std::uint8_t*>(from)); }
  static void store(void* to, R value) { vst1q_u8(static_cast<std::uint8_t*>(to), value); }
  static R zero() { return vdupq_n_u8(0); }
  static R splat(std::uint32_t word) { return vreinterpretq_u8_u32(vdupq_n_u32(word)); }
  static R exclusive(R a, R b) { return veorq_u8(a, b); }
  static R both(R a, R b) { return vandq_u8(a, b); }
  static R either(R a, R b) { return vorrq_u8(a, b); }

  template <class T>
  static R add(R a, R b) {
    if constexpr (sizeof(T) == 1) return vaddq_u8(a, b);
    if constexpr (sizeof(T) == 2) {
      return vreinterpretq_u8_u16(vaddq_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
    }
    return vreinterpretq_u8_u32(vaddq_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
  }
  template <class T>
  static R subtract(R a, R b) {
    if constexpr (sizeof(T) == 2) {
      return vreinterpretq_u8_u16(vsubq_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
    }
    return vreinterpretq_u8_u32(vsubq_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
  }
  template <class T>
  static R set_below(R word, R value, const std::uint32_t* limit, const std::uint32_t* bit) {
    const R bound = splat(*limit);
    R below;
    if constexpr (sizeof(T) == 1) {
      below = vcltq_s8(vreinterpretq_s8_u8(value), vreinterpretq_s8_u8(bound));
    } else if constexpr (sizeof(T) == 2) {
      below = vreinterpretq_u8_u16(
          vcltq_s16(vreinterpretq_s16_u8(value), vreinterpretq_s16_u8(bound)));
    } else {
      below = vreinterpretq_u8_u32(
          vcltq_s32(vreinterpretq_s32_u8(value), vreinterpretq_s32_u8(bound)));
    }
    return either(word, both(below, splat(*bit)));
  }

  static R popcount8(R x) { return vcntq_u8(x); }

  // Products of two neighbours fit 16 bits: 2 * 72 * 127 is 18,288.
  template <class T>
  static R dot(R sum, R counts, R coefficients) {
    const int8x16_t a = vreinterpretq_s8_u8(counts);
    const int8x16_t b = vreinterpretq_s8_u8(coefficients);
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    const int16x8_t high = vmull_high_s8(a, b);
    const int16x8_t pairs = vpaddq_s16(low, high);
    if constexpr (sizeof(T) == 2) return add<T>(sum, vreinterpretq_u8_s16(pairs));
    return vreinterpretq_u8_s32(vpadalq_s16(vreinterpretq_s32_u8(sum), pairs));
  }
  template <class T>
  static R sum(R sum, R counts) {
    if constexpr (sizeof(T) == 1) return add<T>(sum, counts);
    if constexpr (sizeof(T) == 2) {
      return vreinterpretq_u8_u16(vpadalq_u8(vreinterpretq_u16_u8(sum), counts));
    }
    return vreinterpretq_u8_u32(vpadalq_u16(vreinterpretq_u32_u8(sum), vpaddlq_u8(counts)));
  }
  static std::int32_t total(R sum) { return vaddvq_s32(vreinterpretq_s32_u8(sum)); }
  static void gather(const TapColumnsJob& job, int plane, int y) { gather_row(job, plane, y); }
};

constexpr Kernels kKernels = make_kernels<Neon>("neon");

}  // namespace

const Kernels& neon_kernels() { return kKernels; }

}  // namespace taper
