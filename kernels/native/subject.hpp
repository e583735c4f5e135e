// A kept subject's own colour where the old background shines through. See subject.cpp.
#pragma once

#include "plate_size.hpp"

namespace vera {

// edit: x 3, alpha: changed in place; kept; plate: x 3. All of `size`.
void free_subject(float* edit, float* alpha, const float* kept, const float* plate, Extent size);

}  // namespace vera
