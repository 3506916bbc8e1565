#include "ops/quantize.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "core/parallel.h"

namespace qora {
namespace {

// Rounds to nearest even; what is too large becomes infinity.
uint16_t float_to_half(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (bits <
        0x38800000u) {  // a subnormal half: adding 0.5 leaves its bits at the bottom of the sum, rounded
        float magnitude;
        std::memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;
        std::memcpy(&bits, &magnitude, 4);
        return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + ((bits >> 13) & 1u) - (112u << 23);
    return static_cast<uint16_t>(sign | (bits >> 13));
}

// Round to nearest even and clamp, in a form that compilers vectorise. |x| < 2^22.
int32_t round_clamped(float x, float low, float high) {
    const float shifted = std::min(std::max(x, low), high) + 12582912.0f;
    int32_t bits;
    std::memcpy(&bits, &shifted, 4);
    return bits - 0x4b400000;
}

// The value of largest magnitude, with its sign; NaN when any value is not finite.
float extreme(const float* w, int64_t n) {
    float low = 0.0f, high = 0.0f, poison = 0.0f;
    for (int64_t i = 0; i < n; ++i) {
        low = std::min(low, w[i]);
        high = std::max(high, w[i]);
        poison += w[i] * 0.0f;
    }
    return (high > -low ? high : low) + poison;
}

bool quantise_group(WeightKind kind, const float* w, uint8_t* data, uint16_t* scale) {
    const float peak = extreme(w, kGroupSize);
    *scale = float_to_half(kind == WeightKind::kQ4 ? peak / -8.0f : std::fabs(peak) / 127.0f);
    const float rounded = half_to_float(*scale);
    if (!std::isfinite(peak) || !std::isfinite(rounded)) return false;
    const float inverse = rounded != 0.0f ? 1.0f / rounded : 0.0f;
    int32_t q[kGroupSize];
    const float low = kind == WeightKind::kQ4 ? -8.0f : -127.0f,
                high = kind == WeightKind::kQ4 ? 7.0f : 127.0f;
    for (int64_t i = 0; i < kGroupSize; ++i) q[i] = round_clamped(w[i] * inverse, low, high);
    if (kind == WeightKind::kQ4) {
        for (int64_t i = 0; i < kGroupSize / 2; ++i)
            data[i] = static_cast<uint8_t>((q[2 * i] + 8) | (q[2 * i + 1] + 8) << 4);
    } else {
        for (int64_t i = 0; i < kGroupSize; ++i) data[i] = static_cast<uint8_t>(static_cast<int8_t>(q[i]));
    }
    return true;
}

}  // namespace

void quantise(WeightKind kind, const float* weight, int64_t rows, int64_t cols, void* data, uint16_t* scales,
              int num_threads) {
    check(kind == WeightKind::kQ4 || kind == WeightKind::kQ8, "quantize", "the kind must be q4 or q8");
    check(rows >= 0 && cols > 0, "quantize", "expected a matrix with at least one column");
    const int64_t groups = ceil_div(cols, kGroupSize), group_bytes = kind == WeightKind::kQ4 ? 16 : 32;
    std::atomic<int64_t> bad_row{-1};
    parallel_for(rows, 16, num_threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
            for (int64_t g = 0; g < groups; ++g) {
                float values[kGroupSize] = {};
                const int64_t at = g * kGroupSize, n = std::min(kGroupSize, cols - at);
                std::memcpy(values, weight + r * cols + at, static_cast<size_t>(n) * 4);
                uint8_t* to = static_cast<uint8_t*>(data) + (r * groups + g) * group_bytes;
                if (!quantise_group(kind, values, to, scales + r * groups + g)) bad_row.store(r);
            }
    });
    check(bad_row < 0, "quantize",
          "row " + std::to_string(bad_row) + " holds NaN, infinity or a value too large for an fp16 scale");
}

}  // namespace qora
