// Pull-push of subject and old background, then the correction; kernels/subject.py says the same in
// torch. The pyramid begins at half size, straight from the plate: nothing of full size is stored.

#include "subject.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "rows.hpp"

namespace vera {
namespace {

constexpr float kTrust = 0.9f;  // kernels/subject.py: TRUST

float unit(float x) { return std::min(std::max(x, 0.0f), 1.0f); }

float trust(float share) {
    const float t = unit((share - kTrust) / (1 - kTrust));
    return t * t * (3 - 2 * t);
}

// Two layers of weighted colour and weight: subject 0-3, background 4-7.
struct Level {
    Extent size;
    std::vector<float> values;

    explicit Level(Extent s) : size(s), values(size_t(s.height * s.width) * 8) {}
    float* at(std::ptrdiff_t y, std::ptrdiff_t x) { return &values[size_t(y * size.width + x) * 8]; }
    const float* at(std::ptrdiff_t y, std::ptrdiff_t x) const { return &values[size_t(y * size.width + x) * 8]; }
};

// A sum of four: a coarse pixel is as sure as its four together, and at most sure.
void settle(float* v) {
    for (int side = 0; side < 8; side += 4) {
        const float scale = std::max(v[side + 3], 1.0f);
        for (int c = 0; c < 4; ++c) v[side + c] /= scale;
    }
}

Level first_level(const float* plate, const float* alpha, Extent size) {
    Level level({(size.height + 1) / 2, (size.width + 1) / 2});
    for_row_bands(level.size.height, level.size.width, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (auto y = begin; y < end; ++y)
            for (std::ptrdiff_t x = 0; x < level.size.width; ++x) {
                float* v = level.at(y, x);
                for (auto yy = 2 * y; yy < std::min(2 * y + 2, size.height); ++yy)
                    for (auto xx = 2 * x; xx < std::min(2 * x + 2, size.width); ++xx) {
                        const auto place = yy * size.width + xx;
                        const float weights[2] = {trust(1 - alpha[place]), trust(alpha[place])};
                        for (int side = 0; side < 2; ++side) {
                            for (int c = 0; c < 3; ++c) v[4 * side + c] += weights[side] * plate[place * 3 + c];
                            v[4 * side + 3] += weights[side];
                        }
                    }
                settle(v);
            }
    });
    return level;
}

Level coarser(const Level& fine) {
    Level level({(fine.size.height + 1) / 2, (fine.size.width + 1) / 2});
    for (std::ptrdiff_t y = 0; y < level.size.height; ++y)
        for (std::ptrdiff_t x = 0; x < level.size.width; ++x) {
            float* v = level.at(y, x);
            for (auto yy = 2 * y; yy < std::min(2 * y + 2, fine.size.height); ++yy)
                for (auto xx = 2 * x; xx < std::min(2 * x + 2, fine.size.width); ++xx)
                    for (int c = 0; c < 8; ++c) v[c] += fine.at(yy, xx)[c];
            settle(v);
        }
    return level;
}

// Twice the size, bilinear: a pixel is 3/4 its own and 1/4 its neighbour, along both axes.
void grown(const Level& coarse, std::ptrdiff_t y, std::ptrdiff_t x, float* v) {
    const auto ya = y / 2, xa = x / 2;
    const auto yb = std::min(std::max(ya + (y % 2 ? 1 : -1), std::ptrdiff_t(0)), coarse.size.height - 1);
    const auto xb = std::min(std::max(xa + (x % 2 ? 1 : -1), std::ptrdiff_t(0)), coarse.size.width - 1);
    const float *aa = coarse.at(ya, xa), *ab = coarse.at(ya, xb), *ba = coarse.at(yb, xa), *bb = coarse.at(yb, xb);
    for (int c = 0; c < 8; ++c)
        v[c] = 0.5625f * aa[c] + 0.1875f * (ab[c] + ba[c]) + 0.0625f * bb[c];
}

// From the top down every level becomes whole: colour in 0-2 and 4-6.
void push(std::vector<Level>& levels) {
    float* top = levels.back().at(0, 0);
    for (int side = 0; side < 8; side += 4)
        for (int c = 0; c < 3; ++c) top[side + c] /= std::max(top[side + 3], 1e-6f);
    for (auto n = levels.size() - 1; n-- > 0;) {
        Level& fine = levels[n];
        const Level& coarse = levels[n + 1];
        for_row_bands(fine.size.height, fine.size.width, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
            float from[8];
            for (auto y = begin; y < end; ++y)
                for (std::ptrdiff_t x = 0; x < fine.size.width; ++x) {
                    float* v = fine.at(y, x);
                    if (v[3] >= 1 && v[7] >= 1) continue;
                    grown(coarse, y, x, from);
                    for (int side = 0; side < 8; side += 4)
                        for (int c = 0; c < 3; ++c) v[side + c] += (1 - v[side + 3]) * from[side + c];
                }
        });
    }
}

void free_pixel(float* edit, float& alpha, float kept, const float* plate, const float* filled) {
    const float m = 1 - alpha, sure[2] = {trust(m), trust(alpha)};
    float composite[3], need = alpha;
    for (int c = 0; c < 3; ++c) {
        const float s = plate[c];
        const float subject = sure[0] * s + (1 - sure[0]) * filled[c];
        const float behind = sure[1] * s + (1 - sure[1]) * filled[4 + c];
        const float own = unit(subject + m * (s - m * subject - alpha * behind));
        composite[c] = alpha * edit[c] + m * (s + kept * (own - s));
        const float room = composite[c] < s ? s : 1 - s;
        need = std::max(need, std::fabs(composite[c] - s) / std::max(room, 1e-6f));
    }
    need = std::min(need, 1.0f);
    for (int c = 0; c < 3; ++c) edit[c] = unit((composite[c] - (1 - need) * plate[c]) / need);
    alpha = need;
}

}  // namespace

void free_subject(float* edit, float* alpha, const float* kept, const float* plate, Extent size) {
    std::vector<Level> levels;
    levels.push_back(first_level(plate, alpha, size));
    while (levels.back().size.height > 1 || levels.back().size.width > 1) levels.push_back(coarser(levels.back()));
    push(levels);
    for_row_bands(size.height, size.width, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        float filled[8];
        for (auto y = begin; y < end; ++y)
            for (std::ptrdiff_t x = 0; x < size.width; ++x) {
                const auto place = y * size.width + x;
                if (!(kept[place] > 0 && alpha[place] > 0 && alpha[place] < 1)) continue;
                grown(levels[0], y, x, filled);
                free_pixel(edit + place * 3, alpha[place], kept[place], plate + place * 3, filled);
            }
    });
}

}  // namespace vera
