#pragma once

#include <nanobind/nanobind.h>

namespace taper {

// Adds models, batches and the dispatcher to the module.
void bind_dispatcher(nanobind::module_& module);

// Adds the scheduler of fronts in C++.
void bind_scheduler(nanobind::module_& module);

}  // namespace taper
