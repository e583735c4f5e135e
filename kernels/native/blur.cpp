// Separable Gaussian means; kernels/blur.py says the same in torch.

#include "blur.hpp"

#include <algorithm>
#include <vector>

#include "rows.hpp"
#include "widest.hpp"

namespace vera {
namespace {

constexpr std::ptrdiff_t BLOCK = 2048;  // elements of a line worked on at once: 8 KB a source line stay in the nearest cache

WIDEST void scaled(float* out, const float* a, float weight, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; ++i) out[i] = weight * a[i];
}

WIDEST void add_one(float* out, const float* a, float weight, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; ++i) out[i] += weight * a[i];
}

WIDEST void add_two(float* out, const float* a, const float* b, float weight, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; ++i) out[i] += weight * (a[i] + b[i]);
}

// Two pairs at once: half as many passes over `out`. The additions are those of add_two, one after the other.
WIDEST void add_four(float* out, const float* a, const float* b, float weight, const float* c, const float* d,
                     float farther, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        const float near = out[i] + weight * (a[i] + b[i]);
        out[i] = near + farther * (c[i] + d[i]);
    }
}

WIDEST void times(float* out, const float* factors, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; ++i) out[i] *= factors[i];
}

// 1 over the sum of the weights that fall inside, for each place of a line.
std::vector<float> inverse_sums(std::ptrdiff_t size, const float* weights, int reach) {
    std::vector<float> inverse(size);
    for (std::ptrdiff_t i = 0; i < size; ++i) {
        float sum = weights[0];
        for (int k = 1; k <= reach; ++k) sum += weights[k] * float((i >= k) + (i + k < size));
        inverse[i] = 1 / sum;
    }
    return inverse;
}

// Row i of n columns whose neighbours along the axis lie `stride` elements apart. values, result: the first row of the columns.
void across(const float* values, float* result, std::ptrdiff_t n, std::ptrdiff_t stride, std::ptrdiff_t size,
            std::ptrdiff_t i, HalfKernel kernel, float inverse) {
    const float *here = values + i * stride, *weights = kernel.weights;
    float* out = result + i * stride;
    scaled(out, here, weights[0], n);
    for (int k = 1; k <= kernel.reach; ++k) {
        const bool before = i >= k, after = i + k < size;
        const float *a = here - k * stride, *b = here + k * stride;
        if (before && after && k < kernel.reach && i >= k + 1 && i + k + 1 < size) {
            add_four(out, a, b, weights[k], a - stride, b + stride, weights[k + 1], n);
            ++k;
        } else if (before && after) {
            add_two(out, a, b, weights[k], n);
        } else if (before || after) {
            add_one(out, before ? a : b, weights[k], n);
        }
    }
    scaled(out, out, inverse, n);
}

// Along the last axis: the line lies in `padded`, zeros at both ends.
void within(const float* padded, float* out, std::ptrdiff_t size, const float* weights, int reach,
            const float* inverse) {
    const float* here = padded + reach;
    scaled(out, here, weights[0], size);
    int k = 1;
    for (; k + 1 <= reach; k += 2)
        add_four(out, here - k, here + k, weights[k], here - k - 1, here + k + 1, weights[k + 1], size);
    if (k <= reach) add_two(out, here - k, here + k, weights[k], size);
    times(out, inverse, size);
}

}  // namespace

void blur_lines(const float* values, float* result, Lines lines, const float* weights, int reach, int threads) {
    const std::vector<float> inverse = inverse_sums(lines.size, weights, reach);
    const std::ptrdiff_t size = lines.size, inner = lines.inner;
    if (inner == 1) {
        const auto work = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
            std::vector<float> padded(size + 2 * reach);
            for (std::ptrdiff_t line = begin; line < end; ++line) {
                std::copy_n(values + line * size, size, padded.begin() + reach);
                within(padded.data(), result + line * size, size, weights, reach, inverse.data());
            }
        };
        for_row_bands(lines.outer, size, work, threads);
        return;
    }
    // Columns in blocks, each along the whole axis: what several results are made of is then still in a cache.
    const std::ptrdiff_t blocks = (inner + BLOCK - 1) / BLOCK;
    const auto work = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t block = begin; block < end; ++block) {
            const std::ptrdiff_t start = block % blocks * BLOCK, offset = block / blocks * size * inner + start;
            for (std::ptrdiff_t i = 0; i < size; ++i)
                across(values + offset, result + offset, std::min(BLOCK, inner - start), inner, size, i,
                       {weights, reach}, inverse[i]);
        }
    };
    for_row_bands(lines.outer * blocks, size * std::min(BLOCK, inner), work, threads);
}

void blur_planes(const float* values, float* result, Lines planes, HalfKernel along, HalfKernel down, int threads) {
    const std::ptrdiff_t height = planes.size, width = planes.inner;
    const std::vector<float> beside = inverse_sums(width, along.weights, along.reach);
    const std::vector<float> above = inverse_sums(height, down.weights, down.reach);
    const auto work = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        std::vector<float> padded(width + 2 * along.reach), plane(height * width);  // a plane stays in a cache
        for (std::ptrdiff_t p = begin; p < end; ++p) {
            const float* source = values + p * height * width;
            for (std::ptrdiff_t i = 0; i < height; ++i) {
                std::copy_n(source + i * width, width, padded.begin() + along.reach);
                within(padded.data(), &plane[i * width], width, along.weights, along.reach, beside.data());
            }
            for (std::ptrdiff_t i = 0; i < height; ++i)
                across(plane.data(), result + p * height * width, width, width, height, i, down, above[i]);
        }
    };
    for_row_bands(planes.outer, height * width, work, threads);
}

}  // namespace vera
