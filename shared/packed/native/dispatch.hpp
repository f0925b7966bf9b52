// Finds the implementations that this CPU can run.
#pragma once

#include "jobs.hpp"

namespace taper {

constexpr int kMostKernels = 3;

const Kernels& portable_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& neon_kernels();

// Fills `out` with the implementations that this CPU can run, best first; returns their number.
int available_kernels(const Kernels* out[kMostKernels]);

}  // namespace taper
