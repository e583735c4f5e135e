// GELU in its tanh approximation; kernels/gelu.py says the same in torch.

#include "gelu.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "rows.hpp"
#include "widest.hpp"

namespace vera {
namespace {

constexpr float LINEAR = -1.5957691216057308f;             // -2 sqrt(2 / pi)
constexpr float CUBIC = -1.5957691216057308f * 0.044715f;  // of x^3
constexpr float END = 8.0f;  // beyond, x counts as this in the logistic, which is 1 to 1e-21 there. Raising it: overflow at 10
constexpr float LOG2_E = 1.44269504f;
constexpr float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;  // of ln 2; the first in so few bits that n times it is exact
constexpr float ROUNDING = 12582912.0f;  // 1.5 * 2^23: added, a float's last bit is worth 1

// exp(x) = 2^n exp(r), |r| <= ln 2 / 2; the polynomial is that of Cephes' expf (S. Moshier), to 1e-7 of the value.
inline float exponential(float x) {
    const float shifted = x * LOG2_E + ROUNDING;
    const float n = shifted - ROUNDING;
    const float r = (x - n * LN2_HIGH) - n * LN2_LOW;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    std::int32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;  // of 2^n: what ROUNDING has in its upper bits is shifted out
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

WIDEST void gelu_of(float* values, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const float x = values[i];
        float inner = x < -END ? -END : x;  // NaN stays NaN
        inner = inner > END ? END : inner;
        values[i] = x / (1.0f + exponential(inner * (LINEAR + CUBIC * (inner * inner))));
    }
}

}  // namespace

void gelu_tanh(float* values, std::ptrdiff_t count, int threads) {
    constexpr std::ptrdiff_t ROW = 4096;
    const std::ptrdiff_t rows = (count + ROW - 1) / ROW;
    for_row_bands(rows, ROW, [=](std::ptrdiff_t begin, std::ptrdiff_t end) {
        gelu_of(values + begin * ROW, std::min(end * ROW, count) - begin * ROW);
    }, threads);
}

}  // namespace vera
