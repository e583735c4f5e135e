// Gaussian means along one axis of an array.
#pragma once

#include <cstddef>

namespace vera {

// An array seen as (outer, size, inner); means are taken along `size`.
struct Lines {
    std::ptrdiff_t outer, size, inner;
};

// result[i] = sum of weights[|k|] * values[i + k], |k| <= reach, over the sum of the weights that fall inside.
// One order of additions (from the centre outward) on every machine and with any number of threads.
void blur_lines(const float* values, float* result, Lines lines, const float* weights, int reach, int threads);

// The same along the last two axes of planes (count, height, width): first `along` the rows, then `down` the columns.
// The bits are those of two calls of blur_lines.
struct HalfKernel {
    const float* weights;
    int reach;
};
void blur_planes(const float* values, float* result, Lines planes, HalfKernel along, HalfKernel down, int threads);

}  // namespace vera
