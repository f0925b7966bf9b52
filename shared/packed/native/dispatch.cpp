#include "dispatch.hpp"

namespace taper {

int available_kernels(const Kernels* out[kMostKernels]) {
  int count = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  // __builtin_cpu_supports also checks that the operating system saves these registers.
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vpopcntdq") &&
      __builtin_cpu_supports("avx512bitalg") && __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("gfni")) {
    out[count++] = &avx512_kernels();
  }
  if (__builtin_cpu_supports("avx2")) out[count++] = &avx2_kernels();
#elif defined(__aarch64__)
  out[count++] = &neon_kernels();
#endif
  out[count++] = &portable_kernels();
  return count;
}

}  // namespace taper
