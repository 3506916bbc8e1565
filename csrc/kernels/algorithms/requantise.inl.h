// Stored 4-bit weights as bytes of one scale.
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace qora {
namespace {

// A group has sixteen levels, which are rounded once and then looked up. Levels without a weight may have any
// value.
template <class V>
int32_t q4_to_i8(const uint8_t* stored, const float* scales, int64_t groups, float inverse, int8_t* y) {
    const float steps[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    int32_t sums[kGroupSize] = {};
    for (int64_t g = 0; g < groups; ++g, stored += kGroupSize / 2, y += kGroupSize) {
        int8_t levels[16];
        for (int i = 0; i < 16; i += V::kWidth) {
            const auto weights = V::set(scales[g]) * V::load(steps + i);
            V::store_signed_bytes(levels + i, V::to_int(weights * V::set(inverse)));
        }
        V::look_up_nibbles(levels, stored, y);
        for (int64_t i = 0; i < kGroupSize; ++i) sums[i] += y[i];
    }
    int32_t sum = 0;
    for (const int32_t part : sums) sum += part;
    return sum;
}

}  // namespace
}  // namespace qora
