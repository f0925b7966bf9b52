// Whether a description of a half fits together; everything after relies on it.
#pragma once

#include "half.hpp"

namespace taper {

// Throws std::invalid_argument that names the stage and what was expected.
void check_spec(const HalfSpec& spec);

}  // namespace taper
