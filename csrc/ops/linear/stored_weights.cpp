#include "ops/linear/stored_weights.h"

#include <algorithm>
#include <cstring>

#include "core/float_bits.h"

namespace qora {

float half_to_float(uint16_t half) {
    const uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) return from_bits(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    // After the shift, the exponent is too small by 112. The product corrects it, and also turns subnormals
    // into normal numbers.
    return from_bits(sign | to_bits(from_bits(magnitude << 13) * 0x1p112f));
}

void dequantise_row(const WeightView& w, int64_t row, float* out) {
    const int64_t groups = w.groups();
    switch (w.kind) {
        case WeightKind::kF32:
            std::memcpy(out, static_cast<const float*>(w.data) + row * w.cols,
                        static_cast<size_t>(w.cols) * 4);
            return;
        case WeightKind::kF16: {
            const auto* halves = static_cast<const uint16_t*>(w.data) + row * w.cols;
            for (int64_t i = 0; i < w.cols; ++i) out[i] = half_to_float(halves[i]);
            return;
        }
        case WeightKind::kQ8: {
            const auto* q = static_cast<const int8_t*>(w.data) + row * groups * kGroupSize;
            for (int64_t g = 0; g < groups; ++g) {
                const float scale = half_to_float(w.scales[row * groups + g]);
                const int64_t at = g * kGroupSize, n = std::min(kGroupSize, w.cols - at);
                for (int64_t i = 0; i < n; ++i) out[at + i] = scale * static_cast<float>(q[at + i]);
            }
            return;
        }
        case WeightKind::kQ4: {
            const auto* q = static_cast<const uint8_t*>(w.data) + row * groups * (kGroupSize / 2);
            for (int64_t g = 0; g < groups; ++g) {
                const float scale = half_to_float(w.scales[row * groups + g]);
                float values[kGroupSize];
                for (int64_t i = 0; i < kGroupSize / 2; ++i) {
                    const int byte = q[g * (kGroupSize / 2) + i];
                    values[2 * i] = scale * static_cast<float>((byte & 15) - 8);
                    values[2 * i + 1] = scale * static_cast<float>((byte >> 4) - 8);
                }
                const int64_t at = g * kGroupSize, n = std::min(kGroupSize, w.cols - at);
                std::memcpy(out + at, values, static_cast<size_t>(n) * 4);
            }
            return;
        }
    }
}

}  // namespace qora
