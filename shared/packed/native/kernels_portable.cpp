// The kernels for any CPU, with the compiler's 16-byte vectors; they need only baseline
// instructions.
#include "dispatch.hpp"
#include "table.hpp"

namespace taper {
namespace {

typedef std::uint64_t Words __attribute__((vector_size(16)));

template <class T>
struct Lanes;
template <>
struct Lanes<std::uint8_t> {
  typedef std::uint8_t Unsigned __attribute__((vector_size(16)));
  typedef std::int8_t Signed __attribute__((vector_size(16)));
};
template <>
struct Lanes<std::uint16_t> {
  typedef std::uint16_t Unsigned __attribute__((vector_size(16)));
  typedef std::int16_t Signed __attribute__((vector_size(16)));
};
template <>
struct Lanes<std::uint32_t> {
  typedef std::uint32_t Unsigned __attribute__((vector_size(16)));
  typedef std::int32_t Signed __attribute__((vector_size(16)));
};

struct Portable {
  using R = Words;
  using Tail = Portable;
  static constexpr int kBytes = 16;
  static constexpr bool kFastPopcount = false;
  static constexpr bool kWordPopcount = false;

  static R load(const void* from) {
    R value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static void store(void* to, R value) { std::memcpy(to, &value, sizeof value); }
  static R zero() { return R{0, 0}; }
  static R splat(std::uint32_t word) {
    const std::uint64_t twice = word | std::uint64_t{word} << 32;
    return R{twice, twice};
  }
  static R exclusive(R a, R b) { return a ^ b; }
  static R both(R a, R b) { return a & b; }
  static R either(R a, R b) { return a | b; }

  template <class T>
  static R add(R a, R b) {
    using U = typename Lanes<T>::Unsigned;
    return (R)((U)a + (U)b);
  }
  template <class T>
  static R subtract(R a, R b) {
    using U = typename Lanes<T>::Unsigned;
    return (R)((U)a - (U)b);
  }
  template <class T>
  static R set_below(R word, R value, const std::uint32_t* limit, const std::uint32_t* bit) {
    using S = typename Lanes<T>::Signed;
    return word | ((R)((S)value < (S)splat(*limit)) & splat(*bit));
  }

  static R nibbles(R x) {
    x -= x >> 1 & splat(0x55555555u);
    return (x & splat(0x33333333u)) + (x >> 2 & splat(0x33333333u));
  }
  // Only for nibbles up to 7, whose sum cannot carry.
  static R small_bytes(R x) { return (x + (x >> 4)) & splat(0x0F0F0F0Fu); }
  static R popcount8(R x) { return small_bytes(nibbles(x)); }
  static R count_saved(R ones, R twos, R more_twos, R fours) {
    const R two = nibbles(twos) + nibbles(more_twos);
    const R mask = splat(0x0F0F0F0Fu);
    const R four = small_bytes(nibbles(fours));
    const R half = (two & mask) + (two >> 4 & mask) + four + four;
    return small_bytes(nibbles(ones)) + half + half;
  }

  // Sums of two neighbouring products, as signed 16-bit words. Unsigned arithmetic, since lanes
  // after the last pixel hold anything and may wrap.
  static typename Lanes<std::uint16_t>::Signed pairs(R counts, R coefficients) {
    using S = typename Lanes<std::uint16_t>::Signed;
    using U = typename Lanes<std::uint16_t>::Unsigned;
    const U low = (U)((S)((U)coefficients << 8) >> 8);
    const U high = (U)((S)coefficients >> 8);
    const U even = (U)(counts & splat(0x00FF00FFu)) * low;
    const U odd = (U)(counts >> 8 & splat(0x00FF00FFu)) * high;
    return (S)(even + odd);
  }
  template <class T>
  static R dot(R sum, R counts, R coefficients) {
    const auto products = pairs(counts, coefficients);
    if constexpr (sizeof(T) == 2) {
      return add<T>(sum, (R)products);
    } else {
      using S = typename Lanes<std::uint32_t>::Signed;
      using U = typename Lanes<std::uint32_t>::Unsigned;
      const S low = (S)((U)products << 16) >> 16;
      const S high = (S)products >> 16;
      return add<T>(sum, (R)(low + high));
    }
  }
  template <class T>
  static R sum(R sum, R counts) {
    if constexpr (sizeof(T) == 1) {
      return add<T>(sum, counts);
    } else {
      const R mask = splat(0x00FF00FFu);
      const R two = (counts & mask) + (counts >> 8 & mask);
      if constexpr (sizeof(T) == 2) return add<T>(sum, two);
      return add<T>(sum, (two & splat(0x0000FFFFu)) + (two >> 16 & splat(0x0000FFFFu)));
    }
  }
  static std::int32_t total(R sum) {
    std::int32_t words[4];
    store(words, sum);
    return words[0] + words[1] + words[2] + words[3];
  }
  static void gather(const TapColumnsJob& job, int plane, int y) { gather_row(job, plane, y); }
};

constexpr Kernels kKernels = make_kernels<Portable>("portable");

}  // namespace

const Kernels& portable_kernels() { return kKernels; }

}  // namespace taper
