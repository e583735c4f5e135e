// Medians by counting: the bits of a size, read as a number, are in the order of the sizes. kernels/order.py says the
// same in torch.

#include "order.hpp"

#include <cstdint>
#include <cstring>
#include <vector>

namespace vera {
namespace {

constexpr int LOW_BITS = 16;  // counted in the second pass; as many above in the first, so that both tables fit a cache

std::uint32_t size_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits & 0x7fffffffu;
}

// The first bin in which the running count exceeds `rank`, which becomes the rank inside that bin.
std::uint32_t bin_of(const std::vector<std::uint32_t>& counts, std::ptrdiff_t& rank) {
    std::uint32_t bin = 0;
    while (rank >= std::ptrdiff_t(counts[bin])) rank -= counts[bin++];
    return bin;
}

}  // namespace

Median median_size(const float* values, const float* weights, std::ptrdiff_t count, float least) {
    std::vector<std::uint32_t> high(1u << (31 - LOW_BITS)), low(1u << LOW_BITS);
    std::ptrdiff_t taken = 0;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const bool takes = weights[i] > least;
        high[size_bits(values[i]) >> LOW_BITS] += takes;
        taken += takes;
    }
    if (taken == 0) return {0, 0.0f};
    std::ptrdiff_t rank = (taken - 1) / 2;
    const std::uint32_t upper = bin_of(high, rank);
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const std::uint32_t bits = size_bits(values[i]);
        if (bits >> LOW_BITS == upper && weights[i] > least) ++low[bits & ((1u << LOW_BITS) - 1)];
    }
    const std::uint32_t bits = upper << LOW_BITS | bin_of(low, rank);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return {taken, value};
}

}  // namespace vera
