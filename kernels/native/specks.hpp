// Faint small islands in a matte. See specks.cpp.
#pragma once

#include "plate_size.hpp"

namespace vera {

// Sets values of islands to 0, in place. An island: pixels above `low` that touch, corners included.
// Removed if none of its values reaches `high` and it has at most `area` pixels.
void remove_specks(float* alpha, Extent size, float low, float high, long area);

}  // namespace vera
