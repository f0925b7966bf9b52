// The part of the Python module that answers requests from bytes to bytes.
#pragma once

#include <nanobind/nanobind.h>

namespace taper {

void bind_engine(nanobind::module_& module);

}  // namespace taper
