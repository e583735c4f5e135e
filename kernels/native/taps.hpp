// Which pixels of one axis make a pixel of another size, and with what weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace vera {

// Bilinear, pixels as areas, edges held.
struct Pair {
    std::ptrdiff_t a, b;
    float t;  // a + t (b - a)
};

inline std::vector<Pair> linear_taps(std::ptrdiff_t from, std::ptrdiff_t to) {
    std::vector<Pair> taps(to);
    const double scale = double(from) / double(to);
    for (std::ptrdiff_t i = 0; i < to; ++i) {
        const double place = std::max(0.0, (double(i) + 0.5) * scale - 0.5);
        const auto a = std::min<std::ptrdiff_t>(std::ptrdiff_t(place), from - 1);
        taps[i] = {a, std::min(a + 1, from - 1), float(place - double(a))};
    }
    return taps;
}

// Weights of a kernel that reaches `Kernel::reach` pixels to both sides; wider when shrinking, so that nothing aliases.
// They sum to 1, also at the border.
template <class Kernel>
struct Taps {
    struct Run { std::ptrdiff_t first, count, weights; };
    std::vector<Run> runs;
    std::vector<float> weights;

    Taps(std::ptrdiff_t from, std::ptrdiff_t to) {
        const double scale = double(from) / double(to), wide = std::max(1.0, scale);
        for (std::ptrdiff_t i = 0; i < to; ++i) {
            const double center = (double(i) + 0.5) * scale, reach = Kernel::reach * wide;
            const auto first = std::max<std::ptrdiff_t>(std::ptrdiff_t(center - reach + 0.5), 0);
            const auto last = std::min<std::ptrdiff_t>(std::ptrdiff_t(center + reach + 0.5), from);
            runs.push_back({first, last - first, std::ptrdiff_t(weights.size())});
            double sum = 0;
            for (auto j = first; j < last; ++j) sum += Kernel::at((double(j) + 0.5 - center) / wide);
            for (auto j = first; j < last; ++j)
                weights.push_back(float(Kernel::at((double(j) + 0.5 - center) / wide) / sum));
        }
    }
};

struct CatmullRom {
    static constexpr double reach = 2;
    static double at(double x) {
        x = std::fabs(x);
        if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
        return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    }
};

struct Triangle {
    static constexpr double reach = 1;
    static double at(double x) { return std::max(0.0, 1 - std::fabs(x)); }
};

using CubicTaps = Taps<CatmullRom>;
using TriangleTaps = Taps<Triangle>;

// One output row of all columns of `from`: row = sum of weights x rows.
inline void blend_rows(const float* image, std::ptrdiff_t row_values, const CubicTaps& taps,
                       std::ptrdiff_t i, float* row) {
    const auto run = taps.runs[i];
    std::fill(row, row + row_values, 0.0f);
    for (std::ptrdiff_t k = 0; k < run.count; ++k) {
        const float weight = taps.weights[run.weights + k];
        const float* from = image + (run.first + k) * row_values;
        for (std::ptrdiff_t j = 0; j < row_values; ++j) row[j] += weight * from[j];
    }
}

inline void blend_rows(const float* image, std::ptrdiff_t row_values, Pair pair, float* row) {
    const float *a = image + pair.a * row_values, *b = image + pair.b * row_values;
    for (std::ptrdiff_t j = 0; j < row_values; ++j) row[j] = a[j] + pair.t * (b[j] - a[j]);
}

}  // namespace vera
