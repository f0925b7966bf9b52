// Validates the description of a half. All later steps rely on it.
#pragma once

#include "half.hpp"

namespace taper {

// Throws std::invalid_argument with the stage and the expected value.
void check_spec(const HalfSpec& spec);

}  // namespace taper
