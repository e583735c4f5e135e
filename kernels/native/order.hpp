// Medians of many values.
#pragma once

#include <cstddef>

namespace vera {

struct Median {
    std::ptrdiff_t count;  // of the values that took part
    float value;           // 0 without any
};

// The lower median of |values[i]| over the i with weights[i] > least.
Median median_size(const float* values, const float* weights, std::ptrdiff_t count, float least);

}  // namespace vera
