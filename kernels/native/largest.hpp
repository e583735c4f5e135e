// The largest of neighbours along one axis of an array.
#pragma once

#include "blur.hpp"

namespace vera {

// result[i] = the largest of values[i + k], |k| <= reach, as far as they lie inside.
void largest_lines(const float* values, float* result, Lines lines, int reach, int threads);

}  // namespace vera
