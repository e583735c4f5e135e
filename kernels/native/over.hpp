// A layer laid over a plate, in the plate's own pixel type. See over.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vera {

struct half_t { uint16_t bits; };

enum class Space { linear, encoded };

struct Size {
    std::ptrdiff_t height, width, channels;  // 3, or 4 with the plate's alpha
};

// plate, result: height x width x channels; layer: height x width x 4. All
// contiguous. code_bits: 10 or 12 for such codes widened to 16 bits, else 0.
template <class Plate, class Layer>
void over(const Plate* plate, const Layer* layer, Plate* result, Size size,
          Space plate_space, Space blend_space, int code_bits);

}  // namespace vera
