// Running maxima; kernels/largest.py says the same in torch.

#include "largest.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "rows.hpp"
#include "widest.hpp"

namespace vera {
namespace {

constexpr std::ptrdiff_t BLOCK = 2048;  // elements of a line worked on at once: 8 KB a source line stay in the nearest cache

WIDEST void larger(float* out, const float* a, const float* b, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; ++i) out[i] = a[i] < b[i] ? b[i] : a[i];
}

// Along an axis whose neighbours lie `inner` elements apart: whole rows are compared.
void across(const float* values, float* result, Lines lines, std::ptrdiff_t i, std::ptrdiff_t reach) {
    const std::ptrdiff_t first = std::max<std::ptrdiff_t>(0, i - reach), last = std::min(lines.size - 1, i + reach);
    for (std::ptrdiff_t start = 0; start < lines.inner; start += BLOCK) {
        const std::ptrdiff_t n = std::min(BLOCK, lines.inner - start);
        const float* source = values + start;
        float* out = result + i * lines.inner + start;
        std::copy_n(source + first * lines.inner, n, out);
        for (std::ptrdiff_t k = first + 1; k <= last; ++k) larger(out, out, source + k * lines.inner, n);
    }
}

// Along the last axis. `runs` holds the line with the lowest values at both ends, then maxima of 2, 4, ... neighbours.
void within(std::vector<float>& runs, std::vector<float>& wider, float* out, std::ptrdiff_t size, std::ptrdiff_t reach) {
    std::ptrdiff_t run = 1, window = 2 * reach + 1, count = size + 2 * reach;
    for (; 2 * run <= window; run *= 2) {
        count -= run;
        larger(wider.data(), runs.data(), runs.data() + run, count);
        runs.swap(wider);
    }
    larger(out, runs.data(), runs.data() + window - run, size);
}

}  // namespace

void largest_lines(const float* values, float* result, Lines lines, int reach, int threads) {
    const bool last = lines.inner == 1;
    const auto work = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        std::vector<float> runs(last ? lines.size + 2 * reach : 0), wider(runs.size());
        for (std::ptrdiff_t row = begin; row < end; ++row) {
            if (last) {
                std::fill(runs.begin(), runs.end(), -std::numeric_limits<float>::infinity());
                std::copy_n(values + row * lines.size, lines.size, runs.begin() + reach);
                within(runs, wider, result + row * lines.size, lines.size, reach);
            } else {
                const std::ptrdiff_t offset = row / lines.size * lines.size * lines.inner;
                across(values + offset, result + offset, lines, row % lines.size, reach);
            }
        }
    };
    const std::ptrdiff_t rows = last ? lines.outer : lines.outer * lines.size;
    for_row_bands(rows, last ? lines.size : lines.inner, work, threads);
}

}  // namespace vera
