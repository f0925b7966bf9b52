#pragma once

#include <nanobind/nanobind.h>

namespace taper {

// Adds the classes of models, batches and the dispatcher to the module.
void bind_dispatcher(nanobind::module_& module);

// Adds the scheduler of the C++ front to the module.
void bind_scheduler(nanobind::module_& module);

}  // namespace taper
