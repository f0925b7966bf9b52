// The part of the Python module with the engines, which answer serialised requests.
#pragma once

#include <nanobind/nanobind.h>

namespace taper {

void bind_engine(nanobind::module_& module);

}  // namespace taper
