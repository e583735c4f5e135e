// A premultiplied layer over a plate: result = layer + (1 - alpha) * plate.
//
// Where the layer's alpha is 0 the plate's bits are copied, whatever they are.
// Elsewhere the plate's code becomes a number in the blending space, the layer
// goes over it in double precision, and the result is rounded once to the
// plate's own type. kernels/over_reference.py says the same in numpy.

#include "over.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "half.hpp"
#include "rows.hpp"

namespace vera {
namespace {

// IEC 61966-2-1, mirrored about zero; the power goes on above 1.
double decode_srgb(double code) {
    const double c = std::fabs(code);
    const double light = c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
    return std::copysign(light, code);
}

double encode_srgb(double light) {
    const double v = std::fabs(light);
    const double code = v <= 0.0031308 ? v * 12.92 : 1.055 * std::pow(v, 1.0 / 2.4) - 0.055;
    return std::copysign(code, light);
}

double convert(double value, Space from, Space to) {
    if (from == to) return value;
    return from == Space::encoded ? decode_srgb(value) : encode_srgb(value);
}

// ---- Pixel types: code to number (integers: 0..1) and back -----------------

// Integers of `bits` bits, perhaps widened: OpenImageIO reads a 10- or 12-bit
// code into 16 bits with the code at the top and its own top bits repeated
// below, and keeps only the top bits when it writes.
template <class T>
struct Integer {
    int bits;
    double top;

    explicit Integer(int code_bits)
        : bits(code_bits ? code_bits : int(8 * sizeof(T))), top(std::ldexp(1.0, bits) - 1.0) {}

    int spare() const { return int(8 * sizeof(T)) - bits; }

    double number(T code) const { return double(code >> spare()) / top; }

    T code(double number) const {
        const double scaled = number * top;
        uint64_t c = 0;  // NaN ends as 0
        if (scaled > 0.0) c = uint64_t(std::nearbyint(std::min(scaled, top)));
        if (spare()) c = (c << spare()) | (c >> (bits - spare()));
        return T(c);
    }
};

struct Float {
    explicit Float(int) {}
    double number(float code) const { return double(code); }
    float code(double number) const { return float(number); }
};

struct Half {
    explicit Half(int) {}
    double number(half_t code) const { return half_to_double(code.bits); }
    half_t code(double number) const { return half_t{double_to_half(number)}; }
};

template <class T> struct codec { using type = Integer<T>; };
template <> struct codec<float> { using type = Float; };
template <> struct codec<half_t> { using type = Half; };

double layer_number(float value) { return double(value); }
double layer_number(half_t value) { return half_to_double(value.bits); }

// ---- Decoding: one table for all 8- and 16-bit codes where a curve is needed

uint32_t table_index(uint8_t code) { return code; }
uint32_t table_index(uint16_t code) { return code; }
uint32_t table_index(half_t code) { return code.bits; }

template <class T>
class Decoder {
  public:
    Decoder(typename codec<T>::type codes, Space from, Space to, bool worth_a_table)
        : codes_(codes), from_(from), to_(to) {
        if constexpr (sizeof(T) <= 2) {
            if (from == to || !worth_a_table) return;
            table_.resize(size_t(1) << (8 * sizeof(T)));
            for (uint32_t code = 0; code < table_.size(); ++code) {
                const uint16_t bits = uint16_t(code);
                const uint8_t low = uint8_t(code);
                T value;
                std::memcpy(&value, sizeof(T) == 1 ? (const void*)&low : &bits, sizeof(T));
                table_[code] = convert(codes_.number(value), from, to);
            }
        }
    }

    double operator()(T code) const {
        if constexpr (sizeof(T) <= 2) {
            if (!table_.empty()) return table_[table_index(code)];
        }
        return convert(codes_.number(code), from_, to_);
    }

  private:
    typename codec<T>::type codes_;
    Space from_, to_;
    std::vector<double> table_;
};

}  // namespace

template <class Plate, class Layer>
void over(const Plate* plate, const Layer* layer, Plate* result, Size size,
          Space plate_space, Space blend_space, int code_bits) {
    const typename codec<Plate>::type codes(code_bits);
    const bool large = size.height * size.width >= 65536;
    const Decoder<Plate> decode(codes, plate_space, blend_space, large);

    auto pixel = [&](const Plate* p, const Layer* l, Plate* r) {
        const double alpha = layer_number(l[3]);
        if (alpha == 0.0) {
            std::memcpy(r, p, size_t(size.channels) * sizeof(Plate));
            return;
        }
        // alpha 1 leaves nothing of the plate, not even its NaN or infinity.
        const bool opaque = alpha == 1.0;
        for (int c = 0; c < 3; ++c) {
            double value = layer_number(l[c]);
            if (!opaque) value += (1.0 - alpha) * decode(p[c]);
            r[c] = codes.code(convert(value, blend_space, plate_space));
        }
        if (size.channels == 4)
            r[3] = codes.code(opaque ? 1.0 : alpha + (1.0 - alpha) * codes.number(p[3]));
    };

    for_row_bands(size.height, size.width, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t i = begin * size.width; i < end * size.width; ++i)
            pixel(plate + i * size.channels, layer + i * 4, result + i * size.channels);
    });
}

#define VERA_OVER(Plate)                                                                     \
    template void over<Plate, float>(const Plate*, const float*, Plate*, Size, Space, Space, \
                                     int);                                                   \
    template void over<Plate, half_t>(const Plate*, const half_t*, Plate*, Size, Space,      \
                                      Space, int);
VERA_OVER(uint8_t)
VERA_OVER(uint16_t)
VERA_OVER(uint32_t)
VERA_OVER(float)
VERA_OVER(half_t)
#undef VERA_OVER

}  // namespace vera
