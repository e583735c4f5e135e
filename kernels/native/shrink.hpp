// A picture averaged to a smaller size, or a part of it. See shrink.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "over.hpp"
#include "plate_size.hpp"

namespace vera {

// Values of an image of height x width pixels of 3 or 4 values; strides in values.
template <class T>
struct Picture {
    const T* values;
    std::ptrdiff_t height, width, channels, row, column;
};

// The part of the picture at size height x width: a triangular filter, as wide as two pixels of the result.
// NaN counts as 0, and values beyond +-most count as these. result: of the part's size and the picture's channels.
template <class T>
void shrink(const Picture<T>& picture, std::ptrdiff_t height, std::ptrdiff_t width, const Part& part, float most,
            float* result);

// The rows and columns with a non-zero alpha in a layer (h, w, 4), and the number of such pixels.
template <class T>
std::ptrdiff_t alpha_box(const T* layer, std::ptrdiff_t height, std::ptrdiff_t width, Part& box);

}  // namespace vera
