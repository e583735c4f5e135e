// A picture averaged to a smaller size. kernels/shrink.py says the same in torch.
//
// Down first, because whole rows are added, then along. Sums are float32 in a fixed order: the same bits on every
// machine, and for a part of the picture those of the whole.

#include "shrink.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "taps.hpp"

namespace vera {
namespace {

// binary16 to binary32, exact. Infinity becomes 65536, and NaN 0.
inline float number(half_t value) {
    const uint32_t size = value.bits & 0x7FFFu, sign = uint32_t(value.bits & 0x8000u) << 16;
    const uint32_t bits = (size > 0x7C00u ? 0u : size) << 13 | sign;
    float found;
    std::memcpy(&found, &bits, sizeof found);
    return found * 0x1p112f;
}

template <class T> inline float number(T value) { return float(value); }
inline float number(float value) { return value != value ? 0.0f : value; }

inline bool is_there(half_t alpha) { return alpha.bits & 0x7FFFu; }
inline bool is_there(float alpha) { return alpha != 0; }

template <class T>
void clean_row(const T* row, std::ptrdiff_t count, float most, float* clean) {
    for (std::ptrdiff_t j = 0; j < count; ++j) clean[j] = std::min(std::max(number(row[j]), -most), most);
}

// A part of the columns of one row; `row` begins with column `start`.
template <int channels>
float* along_row(const float* row, std::ptrdiff_t start, const TriangleTaps& taps, const Part& part, float* result) {
    for (auto x = part.left; x < part.right; ++x) {
        const auto run = taps.runs[x];
        const float *weight = &taps.weights[run.weights], *from = row + (run.first - start) * channels;
        float total[channels] = {};
        for (std::ptrdiff_t k = 0; k < run.count; ++k, from += channels)
            for (int c = 0; c < channels; ++c) total[c] += weight[k] * from[c];
        result = std::copy_n(total, channels, result);
    }
    return result;
}

}  // namespace

template <class T>
void shrink(const Picture<T>& picture, std::ptrdiff_t height, std::ptrdiff_t width, const Part& part, float most,
            float* result) {
    const TriangleTaps down(picture.height, height), along(picture.width, width);
    const auto first = along.runs[part.left], last = along.runs[part.right - 1];
    const std::ptrdiff_t start = first.first, columns = last.first + last.count - start;
    const std::ptrdiff_t channels = picture.channels, count = columns * channels;
    std::ptrdiff_t kept = 1;  // rows; each is read once and counts in two of the result
    for (auto i = part.top; i < part.bottom; ++i) kept = std::max(kept, down.runs[i].count);
    std::vector<T> gathered(count);
    std::vector<float> clean(kept * count), sum(count);
    auto row = down.runs[part.top].first;
    for (auto i = part.top; i < part.bottom; ++i) {
        const auto run = down.runs[i];
        for (row = std::max(row, run.first); row < run.first + run.count; ++row) {
            const T* from = picture.values + row * picture.row + start * picture.column;
            if (picture.column != channels) {
                for (std::ptrdiff_t x = 0; x < columns; ++x)
                    std::copy_n(from + x * picture.column, channels, &gathered[x * channels]);
                from = gathered.data();
            }
            clean_row(from, count, most, &clean[row % kept * count]);
        }
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (std::ptrdiff_t k = 0; k < run.count; ++k) {
            const float weight = down.weights[run.weights + k], *values = &clean[(run.first + k) % kept * count];
            for (std::ptrdiff_t j = 0; j < count; ++j) sum[j] += weight * values[j];
        }
        result = channels == 3 ? along_row<3>(sum.data(), start, along, part, result)
                               : along_row<4>(sum.data(), start, along, part, result);
    }
}

template <class T>
std::ptrdiff_t alpha_box(const T* layer, std::ptrdiff_t height, std::ptrdiff_t width, Part& box) {
    box = {height, 0, width, 0};
    std::ptrdiff_t total = 0;
    for (std::ptrdiff_t y = 0; y < height; ++y) {
        const T* row = layer + y * width * 4 + 3;
        std::ptrdiff_t count = 0;
        for (std::ptrdiff_t x = 0; x < width; ++x) count += is_there(row[x * 4]);
        if (!count) continue;
        total += count;
        box.top = std::min(box.top, y);
        box.bottom = y + 1;
        std::ptrdiff_t left = 0, right = width;
        while (!is_there(row[left * 4])) ++left;
        while (!is_there(row[(right - 1) * 4])) --right;
        box.left = std::min(box.left, left);
        box.right = std::max(box.right, right);
    }
    if (!total) box = {0, 0, 0, 0};
    return total;
}

#define VERA_SHRINK(T) \
    template void shrink<T>(const Picture<T>&, std::ptrdiff_t, std::ptrdiff_t, const Part&, float, float*);
VERA_SHRINK(uint8_t)
VERA_SHRINK(uint16_t)
VERA_SHRINK(uint32_t)
VERA_SHRINK(half_t)
VERA_SHRINK(float)
#undef VERA_SHRINK
template std::ptrdiff_t alpha_box<half_t>(const half_t*, std::ptrdiff_t, std::ptrdiff_t, Part&);
template std::ptrdiff_t alpha_box<float>(const float*, std::ptrdiff_t, std::ptrdiff_t, Part&);

}  // namespace vera
