// IEEE 754 binary16 to and from binary64, bit-exact and without hardware help,
// so that every machine and compiler gives the same halves.
#pragma once

#include <cstdint>
#include <cstring>

namespace vera {

inline uint64_t double_bits(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline double bits_double(uint64_t bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline double half_to_double(uint16_t half) {
    const uint64_t sign = uint64_t(half & 0x8000u) << 48;
    const uint32_t exponent = (half >> 10) & 0x1Fu;
    const uint64_t mantissa = half & 0x3FFu;
    if (exponent == 0x1F)  // infinity, or NaN with its payload
        return bits_double(sign | 0x7FF0000000000000ull | (mantissa << 42));
    if (exponent != 0)
        return bits_double(sign | (uint64_t(exponent + 1023 - 15) << 52) | (mantissa << 42));
    const double magnitude = double(mantissa) * 0x1p-24;  // zero or a denormal: exact
    return sign ? -magnitude : magnitude;
}

// Rounds to nearest, ties to even, straight from the double: no second rounding.
inline uint16_t double_to_half(double value) {
    const uint64_t bits = double_bits(value);
    const uint16_t sign = uint16_t((bits >> 48) & 0x8000u);
    const uint64_t magnitude = bits & 0x7FFFFFFFFFFFFFFFull;
    const uint64_t infinity = 0x7FF0000000000000ull;

    if (magnitude > infinity) {  // NaN: keep the top of the payload, stay a NaN
        const uint16_t payload = uint16_t((magnitude >> 42) & 0x3FFu);
        return uint16_t(sign | 0x7C00u | (payload ? payload : 1u));
    }
    if (magnitude >= double_bits(65520.0))  // halfway from the largest half to 2^16
        return uint16_t(sign | 0x7C00u);

    const int exponent = int(magnitude >> 52) - 1023;
    if (exponent < -25)  // below half of the smallest denormal
        return sign;
    // Bits to drop from the 53-bit significand: 42 for a normal half, more below.
    const int shift = exponent < -14 ? 42 + (-14 - exponent) : 42;
    const uint64_t significand = (magnitude & 0x000FFFFFFFFFFFFFull) | 0x0010000000000000ull;
    const uint64_t kept = significand >> shift;
    const uint64_t dropped = significand & ((uint64_t(1) << shift) - 1);
    const uint64_t tie = uint64_t(1) << (shift - 1);
    const uint64_t rounded = kept + (dropped > tie || (dropped == tie && (kept & 1)));
    // A normal half's leading bit counts as one step of the exponent, and a
    // carry out of the rounding moves on into it: both by plain addition.
    const uint64_t base = exponent < -14 ? 0 : uint64_t(exponent + 15 - 1) << 10;
    return uint16_t(sign | (base + rounded));
}

}  // namespace vera
