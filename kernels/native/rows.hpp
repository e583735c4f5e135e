// Work on rows of an image, in bands over threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace vera {

// Calls work(begin, end) for bands that together are all rows; small images stay on one thread. threads_given: at most so
// many; 0 is one a core.
template <class Work>
void for_row_bands(std::ptrdiff_t rows, std::ptrdiff_t row_pixels, Work work, int threads_given = 0) {
    const std::ptrdiff_t enough = std::max<std::ptrdiff_t>(1, rows * row_pixels / 65536);
    const std::ptrdiff_t cores = threads_given > 0 ? threads_given : std::max(1u, std::thread::hardware_concurrency());
    const std::ptrdiff_t bands = std::min({rows, enough, cores});
    std::vector<std::thread> threads;
    for (std::ptrdiff_t band = 1; band < bands; ++band) {
        const std::ptrdiff_t begin = rows * band / bands, end = rows * (band + 1) / bands;
        try {
            threads.emplace_back(work, begin, end);
        } catch (const std::system_error&) {  // no thread to be had: do it here
            work(begin, end);
        }
    }
    if (bands > 0) work(0, rows / bands);
    for (auto& thread : threads) thread.join();
}

}  // namespace vera
