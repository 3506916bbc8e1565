// Floats as their bits, in forms that compilers vectorise.
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

// Rounds to nearest even for |x| < 2^22.
inline int32_t round_to_int(float x) { return static_cast<int32_t>(to_bits(x + 12582912.0f) - 0x4b400000u); }

}  // namespace qora
