// Plate-size alpha and colour from model-size fields, a row at a time; kernels/plate_size.py says the
// same in torch. Long runs without an edge cost little: their weights are 0.

#include "plate_size.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "rows.hpp"
#include "taps.hpp"

namespace vera {
namespace {

// kernels/plate_size.py: SNAP, FIT_STRETCH.
constexpr float kLow = 0.02f, kHigh = 0.98f, kStretch = 0.03f;

float unit(float x) { return std::min(std::max(x, 0.0f), 1.0f); }

float at(const float* row, Pair p, std::ptrdiff_t channels, std::ptrdiff_t c) {
    const float a = row[p.a * channels + c], b = row[p.b * channels + c];
    return a + p.t * (b - a);
}

float sum(const float* row, const CubicTaps& taps, std::ptrdiff_t x) {
    const auto run = taps.runs[x];
    const float* weights = &taps.weights[run.weights];
    float total = 0;
    for (std::ptrdiff_t k = 0; k < run.count; ++k) total += weights[k] * row[run.first + k];
    return total;
}

}  // namespace

void plate_alpha(const float* alpha, Extent model, const float* fit, const float* edge, Extent edges,
                 const float* plate, Extent size, const Part& part, float steepness, float* result, float* kept) {
    const CubicTaps down(model.height, size.height), along(model.width, size.width);
    const auto fit_down = linear_taps(model.height, size.height), fit_along = linear_taps(model.width, size.width);
    const auto edge_down = linear_taps(edges.height, size.height), edge_along = linear_taps(edges.width, size.width);
    const Extent made = part.extent();

    for_row_bands(made.height, made.width, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        std::vector<float> a(model.width), f(model.width * 5), e(edges.width * 4);
        for (auto y = begin; y < end; ++y) {
            const auto i = part.top + y;
            blend_rows(alpha, model.width, down, i, a.data());
            blend_rows(fit, model.width * 5, fit_down[i], f.data());
            blend_rows(edge, edges.width * 4, edge_down[i], e.data());
            auto place = y * made.width;
            for (auto x = part.left; x < part.right; ++x, ++place) {
                float value = unit(sum(a.data(), along, x));
                const Pair beside = edge_along[x];
                const float hard = at(e.data(), beside, 4, 3);
                if (hard > 0) {
                    const float low = at(e.data(), beside, 4, 0), rise = at(e.data(), beside, 4, 1);
                    const float distance = at(e.data(), beside, 4, 2) / std::max(hard, 1e-6f);
                    value = unit(value + low + unit(0.5f + steepness * distance) * rise - hard * value);
                }
                const Pair p = fit_along[x];
                const float weight = at(f.data(), p, 5, 4);
                if (weight > 0) {
                    float guided = at(f.data(), p, 5, 3);
                    for (int c = 0; c < 3; ++c) guided += at(f.data(), p, 5, c) * plate[place * 3 + c];
                    guided = unit((guided - kStretch) / (1 - 2 * kStretch));
                    value += weight * (guided - value);
                }
                result[place] = unit((value - kLow) / (kHigh - kLow));
                kept[place] = weight;
            }
        }
    });
}

void plate_color(const float* color, Extent model, const float* alpha, Extent size, const Part& part, float* result) {
    const CubicTaps down(model.height, size.height), along(model.width, size.width);
    const Extent made = part.extent();
    for_row_bands(made.height, made.width, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        std::vector<float> row(model.width * 3);
        for (auto i = begin; i < end; ++i) {
            const float* here = alpha + i * made.width;
            float* to = result + i * made.width * 3;
            if (std::all_of(here, here + made.width, [](float v) { return v == 0; })) {
                std::fill(to, to + made.width * 3, 0.0f);
                continue;
            }
            blend_rows(color, model.width * 3, down, part.top + i, row.data());
            for (std::ptrdiff_t x = 0; x < made.width; ++x) {
                float total[3] = {};
                if (here[x] != 0) {
                    const auto run = along.runs[part.left + x];
                    const float *weight = &along.weights[run.weights], *from = &row[run.first * 3];
                    for (std::ptrdiff_t k = 0; k < run.count; ++k, from += 3)
                        for (int c = 0; c < 3; ++c) total[c] += weight[k] * from[c];
                }
                for (int c = 0; c < 3; ++c) to[x * 3 + c] = unit(total[c]);
            }
        }
    });
}

namespace {

// The pixels [first[i], first[i] + count[i]) of a side that lie, in part, in pixel i of a smaller side.
struct Areas {
    std::vector<std::ptrdiff_t> first, count;

    Areas(std::ptrdiff_t from, std::ptrdiff_t to) : first(to), count(to) {
        for (std::ptrdiff_t i = 0; i < to; ++i) {
            first[i] = i * from / to;
            count[i] = ((i + 1) * from + to - 1) / to - first[i];
        }
    }
};

}  // namespace

template <class Code>
void area_means(const Code* codes, Extent size, std::ptrdiff_t row, std::ptrdiff_t channels, const float* table,
                Extent small, float* result) {
    const Areas down(size.height, small.height), along(size.width, small.width);
    for (std::ptrdiff_t y = 0; y < small.height; ++y) {
        for (std::ptrdiff_t x = 0; x < small.width; ++x) {
            float total[3] = {};
            for (std::ptrdiff_t yy = 0; yy < down.count[y]; ++yy) {
                const Code* code = codes + (down.first[y] + yy) * row + along.first[x] * channels;
                for (std::ptrdiff_t xx = 0; xx < along.count[x]; ++xx, code += channels)
                    for (int c = 0; c < 3; ++c) total[c] += table[code[c]];
            }
            for (int c = 0; c < 3; ++c)
                result[(c * small.height + y) * small.width + x] =
                    total[c] / float(down.count[y]) / float(along.count[x]);
        }
    }
}

void area_means(const Planes& planes, Extent small, float* result, int threads) {
    const Areas down(planes.height, small.height), along(planes.width, small.width);
    const auto work = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t row = begin; row < end; ++row) {
            const std::ptrdiff_t y = row % small.height;
            const float* from = planes.values + row / small.height * planes.plane + down.first[y] * planes.row;
            for (std::ptrdiff_t x = 0; x < small.width; ++x) {
                float total = 0;
                for (std::ptrdiff_t yy = 0; yy < down.count[y]; ++yy) {
                    const float* value = from + yy * planes.row + along.first[x] * planes.column;
                    for (std::ptrdiff_t xx = 0; xx < along.count[x]; ++xx) total += value[xx * planes.column];
                }
                result[row * small.width + x] = total / float(down.count[y]) / float(along.count[x]);
            }
        }
    };
    for_row_bands(planes.count * small.height, small.width, work, threads);
}

template void area_means<uint8_t>(const uint8_t*, Extent, std::ptrdiff_t, std::ptrdiff_t, const float*, Extent, float*);
template void area_means<uint16_t>(const uint16_t*, Extent, std::ptrdiff_t, std::ptrdiff_t, const float*, Extent,
                                   float*);

}  // namespace vera
