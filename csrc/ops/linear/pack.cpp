#include "ops/linear/pack.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/float_bits.h"
#include "ops/ranges.h"

namespace qora {
namespace {

uint16_t round_to_bf16(float x) {
    const uint32_t bits = to_bits(x);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Largest |x|; NaN when any x is not finite.
float largest_of(const KernelTable& table, const float* x, int64_t n) {
    float largest;
    table.largest(&x, 1, n, &largest);
    return largest;
}

// Output features that a thread packs at a time; they divide a panel.
constexpr int64_t kPackRows = 16;
static_assert(kMinTileColumns % kPackRows == 0);
// Values that are encoded together, a multiple of four.
constexpr int64_t kEncodeChunk = 64;

// Sixteen 4-bit weights as they are stored, the first in the lowest bits, biased by 8.
using Nibbles = uint64_t;
constexpr Nibbles kLowHalves = 0x0f0f0f0f0f0f0f0full, kOnes = 0x0101010101010101ull;

// In each byte the sum of its two stored values.
Nibbles pair_sums(Nibbles x) { return (x & kLowHalves) + ((x >> 4) & kLowHalves); }

// In each byte |value - 8| of one stored value.
Nibbles distances(Nibbles values) {
    // One where the value is below 8; its magnitude is then 8 - value.
    const Nibbles below = (~values >> 3) & kOnes;
    return ((values & (7 * kOnes)) ^ (7 * below)) + below;
}

// In each byte the sum of its two weights' magnitudes.
Nibbles magnitudes_of(Nibbles x) { return distances(x & kLowHalves) + distances((x >> 4) & kLowHalves); }

int64_t sum_bytes(uint64_t x) {
    const uint64_t words = (x & 0x00ff00ff00ff00ffull) + ((x >> 8) & 0x00ff00ff00ff00ffull);
    return static_cast<int64_t>((words * 0x0001000100010001ull) >> 48);
}

// In each of the two dwords, weights 0 ... 7 in the order 0 4 1 5 2 6 3 7: the low halves of its bytes are
// the operand of one dot product of bytes, the high halves that of the next.
Nibbles interleave_halves(Nibbles x) {
    Nibbles swap = ((x >> 8) ^ x) & 0x0000ff000000ff00ull;
    x ^= swap ^ (swap << 8);
    swap = ((x >> 4) ^ x) & 0x00f000f000f000f0ull;
    return x ^ swap ^ (swap << 4);
}

// Group g of a stored row; values after the last column are zero.
std::array<Nibbles, 2> group_nibbles(const uint8_t* stored, int64_t g, int64_t columns) {
    std::array<Nibbles, 2> halves;
    std::memcpy(halves.data(), stored + g * (kGroupSize / 2), sizeof(halves));
    for (int64_t i = columns - g * kGroupSize; i < kGroupSize; ++i) {
        const int64_t shift = i % 16 * 4;
        Nibbles& half = halves[static_cast<size_t>(i / 16)];
        half = (half & ~(Nibbles{15} << shift)) | Nibbles{8} << shift;
    }
    return halves;
}

// In each byte the larger of two, both below 128.
uint64_t max_bytes(uint64_t a, uint64_t b) {
    const uint64_t larger = ((((a | (kOnes << 7)) - b) >> 7) & kOnes) * 255;
    return (a & larger) | (b & ~larger);
}

// Largest magnitude of a group's weights.
float largest_magnitude(const std::array<Nibbles, 2>& halves) {
    uint64_t high = 0;
    for (const Nibbles half : halves)
        high = max_bytes(high, max_bytes(distances(half & kLowHalves), distances((half >> 4) & kLowHalves)));
    for (int shift = 32; shift >= 8; shift /= 2) high = max_bytes(high, high >> shift);
    return static_cast<float>(high & 255);
}

void check_finite(int64_t feature, double value) {
    check(std::isfinite(value), "pack_linear", [&] {
        return "output feature " + std::to_string(feature) + " has a weight that is NaN or infinite";
    });
}

}  // namespace

PackedLinear::PackedLinear(const KernelTable& table, Family family, int64_t out_features, int64_t in_features)
    : table_(&table), family_(family), out_features_(out_features), in_features_(in_features) {
    check(out_features > 0 && in_features > 0, "pack_linear", "expected positive feature counts");
    check(family != Family::kI16, "pack_linear", "the i16 family serves attention only");
    // The sum of u8 times s8 over the input must fit an int32. The multipliers of q4 become coarser with more
    // inputs.
    check(family_kr(family) != 4 || in_features <= (int64_t{1} << 31) / (255 * 127), "pack_linear", [&] {
        return "int8 weights take at most 66311 input features, got " + std::to_string(in_features);
    });
    const bool grouped = family == Family::kQ4;
    // Steps that packing writes, and steps of padding.
    const int64_t written_steps =
        round_up(ceil_div(in_features, family_kr(family)), grouped ? kGroupSteps : 1);
    steps_ = round_up(written_steps, kernels().step_multiple);
    panels_ = ceil_div(out_features, table.nr);
    step_bytes_ = grouped ? stored_group_bytes(table.nr) / kGroupSteps : table.nr * 4;
    panel_bytes_ = steps_ * step_bytes_;
    const int64_t columns = panels_ * table.nr;
    bias_at_ = panels_ * panel_bytes_;
    col_scale_at_ = bias_at_ + columns * 4;
    col_sum_at_ = col_scale_at_ + columns * 4;
    const int64_t bytes = col_sum_at_ + (columns + table.nr) * 4;  // a vector may start at any column
    memory_.reserve(static_cast<size_t>(bytes));
    // Padding must be zero. Packing overwrites all panels before the last, except for steps of padding.
    // Without such steps, their pages need not be written here.
    const int64_t first = steps_ > written_steps ? 0 : (panels_ - 1) * panel_bytes_;
    std::memset(memory_.data() + first, 0, static_cast<size_t>(bytes - first));
}

void PackedLinear::pack_row(int64_t n, const float* row) {
    const float high = largest_of(*table_, row, in_features_);
    check_finite(n, high);
    const int64_t nr = table_->nr;
    uint8_t* column = memory_.data() + n / nr * panel_bytes_ + n % nr * 4;
    const int64_t stride = nr * 4, k = in_features_;
    switch (family_) {
        case Family::kF32:
            for (int64_t i = 0; i < k; ++i) std::memcpy(column + i * stride, row + i, 4);
            return;
        case Family::kBf16:
            for (int64_t step = 0; 2 * step < k; ++step) {
                const int64_t i = 2 * step;
                const uint32_t even = round_to_bf16(row[i]), odd = i + 1 < k ? round_to_bf16(row[i + 1]) : 0;
                const uint32_t pair = even | odd << 16;
                std::memcpy(column + step * stride, &pair, 4);
            }
            return;
        case Family::kI8: {
            const float scale = high > 0.0f ? high / 127.0f : 1.0f, inverse = 1.0f / scale;
            int32_t sum = 0;
            // Four bytes of a column, one step, at a time; the last step is padded with zeros.
            for (int64_t at = 0; at < k; at += kEncodeChunk) {
                const int64_t count = std::min(kEncodeChunk, k - at);
                int32_t q[kEncodeChunk] = {};
                for (int64_t i = 0; i < count; ++i) q[i] = round_to_int(row[at + i] * inverse);
                for (int64_t i = 0; i < count; ++i) sum += q[i];
                uint8_t* to = column + at / 4 * stride;
                for (int64_t i = 0; i < count; i += 4, to += stride) {
                    const uint32_t bytes = (q[i] & 255) | (q[i + 1] & 255) << 8 | (q[i + 2] & 255) << 16 |
                                           static_cast<uint32_t>(q[i + 3]) << 24;
                    std::memcpy(to, &bytes, 4);
                }
            }
            set_column(n, scale, sum);
            return;
        }
        case Family::kI16:
        case Family::kQ4: return;  // refused by the constructor; packed by pack_q4_row
    }
}

// Group scales become int16 multipliers of one step size for the whole row. The step size is the smallest
// with which |sum| of u8 times q4 times multiplier fits an int32.
void PackedLinear::pack_q4_row(int64_t n, const WeightView& w, int64_t row) {
    const int64_t groups = w.groups(), nr = table_->nr, bytes = kGroupSize / 2;
    const auto* stored = static_cast<const uint8_t*>(w.data) + row * groups * bytes;
    const uint16_t* scales = w.scales + row * groups;
    uint8_t* const first = memory_.data() + n / nr * panel_bytes_;
    std::vector<int32_t> sums(static_cast<size_t>(groups));
    double weighted = 0.0, largest = 0.0;
    int64_t magnitudes = 0;
    for (int64_t g = 0; g < groups; ++g) {
        const auto halves = group_nibbles(stored, g, w.cols);
        const int64_t magnitude = sum_bytes(magnitudes_of(halves[0]) + magnitudes_of(halves[1]));
        sums[static_cast<size_t>(g)] =
            static_cast<int32_t>(sum_bytes(pair_sums(halves[0]) + pair_sums(halves[1]))) -
            8 * static_cast<int32_t>(kGroupSize);
        const double scale = std::fabs(half_to_float(scales[g]));
        weighted += scale * static_cast<double>(magnitude);
        largest = std::max(largest, scale);
        magnitudes += magnitude;
        uint8_t* column = first + g * stored_group_bytes(nr) + n % nr * 4;
        for (const Nibbles half : halves) {
            const Nibbles shuffled = interleave_halves(half);
            for (int shift = 0; shift < 64; shift += 32, column += nr * 4) {
                const auto step = static_cast<uint32_t>(shuffled >> shift);
                std::memcpy(column, &step, 4);
            }
        }
    }
    check_finite(n, weighted + largest);
    // A multiplier is rounded, which can add half of every |q|.
    const double room = 2147483647.0 / 255.0 - 0.5 * static_cast<double>(magnitudes) - 1.0;
    const double step = largest > 0.0 ? std::max(weighted / room, largest / 32767.0) : 1.0;

    int64_t sum = 0;
    uint8_t* at = first + nr * bytes + n % nr * 2;
    for (int64_t g = 0; g < groups; ++g, at += stored_group_bytes(nr)) {
        const auto multiplier = static_cast<int16_t>(std::lrint(half_to_float(scales[g]) / step));
        std::memcpy(at, &multiplier, 2);
        sum += multiplier * static_cast<int64_t>(sums[static_cast<size_t>(g)]);
    }
    set_column(n, static_cast<float>(step), static_cast<int32_t>(sum));
}

// The result of pack_row, computed without dequantised rows. Sixteen features share the cache lines of a
// panel: they are encoded together and then written line by line.
void PackedLinear::requantise_q4_rows(int64_t n, const WeightView& w, int64_t row, int64_t count) {
    const int64_t groups = w.groups(), whole = w.cols / kGroupSize, bytes = kGroupSize / 2;
    const int64_t width = groups * kGroupSize;
    std::vector<float> scales(static_cast<size_t>(groups));
    std::vector<int8_t> encoded(static_cast<size_t>(count * width));
    for (int64_t r = 0; r < count; ++r) {
        const auto* stored = static_cast<const uint8_t*>(w.data) + (row + r) * groups * bytes;
        for (int64_t g = 0; g < groups; ++g) scales[g] = half_to_float(w.scales[(row + r) * groups + g]);
        const float largest = largest_of(*table_, scales.data(), groups);
        check_finite(n + r, largest);
        // Few groups can hold the largest weight, if those with the largest scale come first.
        float high = 0.0f;
        for (const float least : {largest, 0.0f})
            for (int64_t g = 0; g < groups; ++g)
                if (const float size = std::fabs(scales[g]); size >= least && 8.0f * size > high)
                    high = std::max(high, size * largest_magnitude(group_nibbles(stored, g, w.cols)));
        const float scale = high > 0.0f ? high / 127.0f : 1.0f, inverse = 1.0f / scale;
        int8_t* q = encoded.data() + r * width;
        int32_t sum = table_->q4_to_i8(stored, scales.data(), whole, inverse, q);
        if (whole < groups) {
            const auto last = group_nibbles(stored, whole, w.cols);
            sum += table_->q4_to_i8(reinterpret_cast<const uint8_t*>(last.data()), scales.data() + whole, 1,
                                    inverse, q + whole * kGroupSize);
        }
        set_column(n + r, scale, sum);
    }
    // The columns of one panel at a time.
    const int64_t nr = table_->nr;
    for (int64_t r = 0; r < count;) {
        const int64_t column = (n + r) % nr, part = std::min(count - r, nr - column);
        std::array<const uint8_t*, kPackRows> rows;
        for (int64_t i = 0; i < part; ++i)
            rows[i] = reinterpret_cast<const uint8_t*>(encoded.data()) + (r + i) * width;
        table_->transpose(rows.data(), static_cast<int>(part), ceil_div(in_features_, 4),
                          memory_.data() + (n + r) / nr * panel_bytes_ + column * 4, nr);
        r += part;
    }
}

void PackedLinear::set_column(int64_t n, float scale, int32_t sum) {
    reinterpret_cast<float*>(memory_.data() + col_scale_at_)[n] = scale;
    reinterpret_cast<float*>(memory_.data() + col_sum_at_)[n] = static_cast<float>(sum);
}

void PackedLinear::set_rows(int64_t at, const WeightView& weight, const float* bias, int num_threads) {
    check(weight.cols == in_features_, "pack_linear", [&] {
        return "expected " + std::to_string(in_features_) + " input features, got " +
               std::to_string(weight.cols);
    });
    check(at >= 0 && at <= out_features_ - weight.rows, "pack_linear", [&] {
        return std::to_string(weight.rows) + " output features from " + std::to_string(at) +
               " on lie outside of " + std::to_string(out_features_);
    });
    const bool grouped = family_ == Family::kQ4;
    check(!grouped || weight.kind == WeightKind::kQ4, "pack_linear", "the q4 family takes q4 weights alone");
    auto* biases = reinterpret_cast<float*>(memory_.data() + bias_at_);
    for (int64_t n = 0; n < weight.rows; ++n) biases[at + n] = bias != nullptr ? bias[n] : 0.0f;
    parallel_ranges(*table_, weight.rows, kPackRows, num_threads, [&](int64_t begin, int64_t end) {
        if (family_ == Family::kI8 && weight.kind == WeightKind::kQ4)
            return requantise_q4_rows(at + begin, weight, begin, end - begin);
        std::vector<float> row(static_cast<size_t>(in_features_));
        for (int64_t n = begin; n < end; ++n) {
            if (grouped) {
                pack_q4_row(at + n, weight, n);
            } else {
                dequantise_row(weight, n, row.data());
                pack_row(at + n, row.data());
            }
        }
    });
    rows_set_ += weight.rows;
}

}  // namespace qora
