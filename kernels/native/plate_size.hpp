// The layer's alpha and colour brought from the model's size to the plate's. See plate_size.cpp.
#pragma once

#include <cstddef>

namespace vera {

struct Extent {
    std::ptrdiff_t height, width;
};

// Rows and columns of a picture; `bottom` and `right` lie outside.
struct Part {
    std::ptrdiff_t top, bottom, left, right;
    Extent extent() const { return {bottom - top, right - left}; }
};

// size: of the whole plate, of which a part is made. alpha: model; fit: model x 5; edge: its own size x 4; plate: the
// part x 3; result, kept: the part.
void plate_alpha(const float* alpha, Extent model, const float* fit, const float* edge, Extent edges,
                 const float* plate, Extent size, const Part& part, float steepness, float* result, float* kept);

// color: model x 3; alpha: the part; result: the part x 3, 0 where alpha is 0.
void plate_color(const float* color, Extent model, const float* alpha, Extent size, const Part& part, float* result);

// A table's values of codes (height, width, channels 3 or 4) of which the first three count, averaged over the areas of
// the pixels of a smaller size: result 3 x small.
template <class Code>
void area_means(const Code* codes, Extent size, std::ptrdiff_t row, std::ptrdiff_t channels, const float* table,
                Extent small, float* result);

// Planes of floats; plane, row, column: elements from one to the next.
struct Planes {
    const float* values;
    std::ptrdiff_t count, height, width, plane, row, column;
};

// The same of planes: result count x small.
void area_means(const Planes& planes, Extent small, float* result, int threads);

}  // namespace vera
