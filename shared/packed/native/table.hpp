// The table of kernels for one vector type. Internal linkage: see conv.hpp.
#pragma once

#include "finish.hpp"
#include "image.hpp"
#include "linear.hpp"
#include "peak.hpp"
#include "taps.hpp"

namespace taper {
namespace {

template <class V>
constexpr Kernels make_kernels(const char* name) {
  return Kernels{name,         V::kBytes * 8,      run_image<V>, run_columns,
                 run_count<V>, run_tap_columns<V>, run_taps<V>,  run_linear<V>,
                 run_finish,   run_pack,           run_unpack,   run_peak<V>};
}

}  // namespace
}  // namespace taper
