#include "ops/linear/quantize.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>

#include "core/float_bits.h"
#include "core/parallel.h"

namespace qora {
namespace {

// Rounds to nearest even; values that are too large become infinity.
uint16_t float_to_half(float x) {
    uint32_t bits = to_bits(x);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (bits <
        0x38800000u) {  // a subnormal half: adding 0.5 leaves its bits at the bottom of the sum, rounded
        return static_cast<uint16_t>(sign | (to_bits(from_bits(bits) + 0.5f) - 0x3f000000u));
    }
    bits += 0xfffu + ((bits >> 13) & 1u) - (112u << 23);
    return static_cast<uint16_t>(sign | (bits >> 13));
}

// The value of largest magnitude, with its sign; NaN or infinity if any value is. Magnitudes of floats have
// the order of their bits, and compilers vectorise the maximum of integers.
float extreme(const float* w) {
    int32_t magnitude = 0, positive = 0;
    for (int64_t i = 0; i < kGroupSize; ++i) {
        const auto bits = static_cast<int32_t>(to_bits(w[i]));
        magnitude = std::max(magnitude, bits & 0x7fffffff);
        positive = std::max(positive, bits);
    }
    const float peak = from_bits(static_cast<uint32_t>(magnitude));
    return positive == magnitude ? peak : -peak;
}

// The nearest half-precision number, as float32: the value that float_to_half stores. Compilers vectorise
// this form.
float round_to_half(float x) {
    const uint32_t sign = to_bits(x) & 0x80000000u, magnitude = to_bits(x) & 0x7fffffffu;
    const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u)) & ~0x1fffu;
    // Next to 0.75 numbers are 2^-24 apart, as subnormal halves are.
    const uint32_t subnormal = to_bits((from_bits(magnitude) + 0.75f) - 0.75f);
    const uint32_t rounded = magnitude < 0x38800000u ? subnormal : normal;
    return from_bits(sign | (rounded < 0x47800000u ? rounded : 0x7f800000u));
}

// Parameters of the search for each kind. Candidates are the scales peak / r for kCandidates ratios r, evenly
// spaced from kFirst to kLast. Below kFirst, steps are too long; above kLast, the peak is clipped too much.
// For normal, Laplace and uniform values this leaves squared errors within 0.4 % (q4) and 6 % (q8) of the
// least.
struct Q4 {
    static constexpr int kLow = -8, kHigh = 7;
    static constexpr int kCandidates = 12;
    static constexpr double kFirst = 6.0, kLast = 9.2;
    static constexpr int kFractionBits = 10;

    static int16_t clamp(int16_t q) { return std::min<int16_t>(std::max<int16_t>(q, kLow), kHigh); }
    static void store(const int16_t* q, uint8_t* data) {
        for (int64_t i = 0; i < kGroupSize / 2; ++i)
            data[i] = static_cast<uint8_t>((q[2 * i] + 8) | (q[2 * i + 1] + 8) << 4);
    }
};

struct Q8 {
    static constexpr int kLow = -127, kHigh = 127;
    static constexpr int kCandidates = 16;
    static constexpr double kFirst = 116.0, kLast = 127.4;
    static constexpr int kFractionBits = 7;

    static int16_t clamp(int16_t q) { return q; }  // no candidate exceeds +-127
    static void store(const int16_t* q, uint8_t* data) {
        for (int64_t i = 0; i < kGroupSize; ++i) data[i] = static_cast<uint8_t>(static_cast<int8_t>(q[i]));
    }
};

// Values of a group as integers: the one of largest magnitude is -kUnit.
constexpr int kUnit = 32767;

// value * m / 2^16 is value / kUnit * r in units of 2^-kFractionBits.
template <class Kind>
constexpr std::array<int16_t, Kind::kCandidates> make_multipliers() {
    std::array<int16_t, Kind::kCandidates> m{};
    for (int k = 0; k < Kind::kCandidates; ++k) {
        const double r = Kind::kFirst + (Kind::kLast - Kind::kFirst) * k / (Kind::kCandidates - 1);
        m[k] = static_cast<int16_t>(r * (1 << Kind::kFractionBits) * 65536.0 / kUnit + 0.5);
    }
    return m;
}

// The stored scale with the least sum of squared errors among all candidates. Each candidate rounds the group
// to q; the best scale for these q is sum(w q) / sum(q q), which is then rounded to its stored form. A vector
// holds twice as many 16-bit integers as float32, and their sums are exact in any order.
template <class Kind>
float search_scale(const float* w, float peak) {
    if (std::fabs(peak) <= 0x1p-25f) return 0.0f;  // every scale would be rounded to zero
    static constexpr auto multipliers = make_multipliers<Kind>();
    constexpr int kHalf = 1 << (Kind::kFractionBits - 1);
    const float unit = -peak / kUnit, inverse_unit = -kUnit / peak;
    int16_t v[kGroupSize], q[kGroupSize];
    for (int64_t i = 0; i < kGroupSize; ++i) v[i] = static_cast<int16_t>(round_to_int(w[i] * inverse_unit));
    float wq[Kind::kCandidates], qq[Kind::kCandidates];
    for (int k = 0; k < Kind::kCandidates; ++k) {
        const int16_t m = multipliers[k];
        for (int64_t i = 0; i < kGroupSize; ++i) {
            const auto scaled = static_cast<int16_t>((v[i] * m) >> 16);
            const auto shifted = static_cast<int16_t>(scaled + kHalf);
            q[i] = Kind::clamp(static_cast<int16_t>(shifted >> Kind::kFractionBits));
        }
        int32_t sum_wq = 0, sum_qq = 0;
        for (int64_t i = 0; i < kGroupSize; ++i) sum_wq += v[i] * q[i];
        for (int64_t i = 0; i < kGroupSize; ++i) sum_qq += q[i] * q[i];
        wq[k] = static_cast<float>(sum_wq);
        qq[k] = static_cast<float>(sum_qq);
    }
    // The squared error of all zeros minus the squared error with this scale, in units of unit^2.
    float scale[Kind::kCandidates], gain[Kind::kCandidates];
    for (int k = 0; k < Kind::kCandidates; ++k) {
        scale[k] = round_to_half(wq[k] / qq[k] * unit);
        const float in_units = scale[k] * (1.0f / unit);
        gain[k] = in_units * (2.0f * wq[k] - in_units * qq[k]);
    }
    int best = 0;
    for (int k = 1; k < Kind::kCandidates; ++k) best = gain[k] > gain[best] ? k : best;
    return scale[best];
}

template <class Kind>
bool quantise_group(const float* w, uint8_t* data, uint16_t* stored_scale) {
    const float peak = extreme(w);
    if (!std::isfinite(peak)) return false;
    const float scale = search_scale<Kind>(w, peak);
    if (!std::isfinite(scale)) return false;
    *stored_scale = float_to_half(scale);
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    int16_t q[kGroupSize];
    for (int64_t i = 0; i < kGroupSize; ++i) {
        const auto rounded = static_cast<int16_t>(round_to_int(w[i] * inverse));
        q[i] = std::min<int16_t>(std::max<int16_t>(rounded, Kind::kLow), Kind::kHigh);
    }
    Kind::store(q, data);
    return true;
}

}  // namespace

void quantise(WeightKind kind, const float* weight, int64_t rows, int64_t cols, void* data, uint16_t* scales,
              int num_threads) {
    check(kind == WeightKind::kQ4 || kind == WeightKind::kQ8, "quantize", "the kind must be q4 or q8");
    check(rows >= 0 && cols > 0, "quantize", "expected a matrix with at least one column");
    const int64_t groups = ceil_div(cols, kGroupSize), group_bytes = kind == WeightKind::kQ4 ? 16 : 32;
    const auto group = kind == WeightKind::kQ4 ? quantise_group<Q4> : quantise_group<Q8>;
    std::atomic<int64_t> bad_row{-1};
    parallel_for(rows, 16, num_threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
            for (int64_t g = 0; g < groups; ++g) {
                float values[kGroupSize] = {};
                const int64_t at = g * kGroupSize, n = std::min(kGroupSize, cols - at);
                std::memcpy(values, weight + r * cols + at, static_cast<size_t>(n) * 4);
                uint8_t* to = static_cast<uint8_t*>(data) + (r * groups + g) * group_bytes;
                if (!group(values, to, scales + r * groups + g)) bad_row.store(r);
            }
    });
    check(bad_row < 0, "quantize", [&] {
        return "row " + std::to_string(bad_row) +
               " holds NaN, infinity or a value too large for an fp16 scale";
    });
}

}  // namespace qora
