// Conversions between floats and their bits, in forms that compilers vectorise without library calls.
#pragma once

#include <cstdint>
#include <cstring>

namespace qora {

inline float from_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline uint32_t to_bits(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

// floor(log2(x)), the exponent of a normal x > 0; and 2^n for an n that is such an exponent.
inline int exponent(double x) {
    uint64_t bits;
    std::memcpy(&bits, &x, 8);
    return static_cast<int>(bits >> 52) - 1023;
}

inline double power_of_two(int n) {
    const uint64_t bits = static_cast<uint64_t>(n + 1023) << 52;
    double x;
    std::memcpy(&x, &bits, 8);
    return x;
}

// Rounds to nearest even for |x| < 2^22.
inline int32_t round_to_int(float x) { return static_cast<int32_t>(to_bits(x + 12582912.0f) - 0x4b400000u); }

}  // namespace qora
