// Islands by flood fill; kernels/specks.py says the same in Python.

#include "specks.hpp"

#include <algorithm>
#include <vector>

namespace vera {

void remove_specks(float* alpha, Extent size, float low, float high, long area) {
    std::vector<char> seen(size_t(size.height * size.width));
    std::vector<std::ptrdiff_t> island;
    for (std::ptrdiff_t start = 0; start < size.height * size.width; ++start) {
        if (seen[start] || !(alpha[start] > low)) continue;
        float peak = 0;
        island.assign(1, start);
        seen[start] = 1;
        for (size_t k = 0; k < island.size(); ++k) {
            const auto y = island[k] / size.width, x = island[k] % size.width;
            peak = std::max(peak, alpha[island[k]]);
            for (auto yy = std::max<std::ptrdiff_t>(y - 1, 0); yy <= std::min(y + 1, size.height - 1); ++yy)
                for (auto xx = std::max<std::ptrdiff_t>(x - 1, 0); xx <= std::min(x + 1, size.width - 1); ++xx) {
                    const auto next = yy * size.width + xx;
                    if (seen[next] || !(alpha[next] > low)) continue;
                    seen[next] = 1;
                    island.push_back(next);
                }
        }
        if (peak < high && long(island.size()) <= area)
            for (auto place : island) alpha[place] = 0;
    }
}

}  // namespace vera
