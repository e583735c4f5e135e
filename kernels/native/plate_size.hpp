// The layer's alpha and colour brought from the model's size to the plate's. See plate_size.cpp.
#pragma once

#include <cstddef>

namespace vera {

struct Extent {
    std::ptrdiff_t height, width;
};

// alpha: model; fit: model x 5; edge: its own size x 4; plate: x 3; result, kept: plate.
void plate_alpha(const float* alpha, Extent model, const float* fit, const float* edge, Extent edges,
                 const float* plate, Extent size, float steepness, float* result, float* kept);

// color: model x 3; alpha: plate; result: plate x 3, 0 where alpha is 0.
void plate_color(const float* color, Extent model, const float* alpha, Extent size, float* result);

}  // namespace vera
