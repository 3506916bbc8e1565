// Stored 4-bit weights as bytes of one scale.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/float_bits.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

// Plain loops, which compilers vectorise.
template <class V>
int32_t q4_to_i8(const uint8_t* stored, const float* scales, int64_t groups, float inverse, int8_t* y) {
    constexpr int kBytes = kGroupSize / 2;
    int32_t sums[kBytes] = {};
    for (int64_t g = 0; g < groups; ++g) {
        const float scale = scales[g];
        uint16_t pairs[kBytes];
        for (int i = 0; i < kBytes; ++i) {
            const int32_t byte = stored[g * kBytes + i];
            const int32_t even = round_to_int(scale * static_cast<float>((byte & 15) - 8) * inverse),
                          odd = round_to_int(scale * static_cast<float>((byte >> 4) - 8) * inverse);
            sums[i] += even + odd;
            pairs[i] = static_cast<uint16_t>((even & 255) | odd * 256);
        }
        std::memcpy(y + g * kGroupSize, pairs, sizeof(pairs));
    }
    int32_t sum = 0;
    for (const int32_t part : sums) sum += part;
    return sum;
}

}  // namespace
}  // namespace qora
