#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/parallel.h"

namespace qora {
namespace {

// Query rows that share a pass over the keys: their operands, weights and outputs stay in the L1 and L2.
constexpr int64_t kBlockQueries = 96;
// Keys that share a softmax step; a multiple of every tile's columns.
constexpr int64_t kBlockKeys = 256;
static_assert(kBlockKeys <= 2 * kI16ProductKeys, "a block of weights needs more than two parts");

// Step of integers up to `limit` that stand for values up to `max`; NaN when max is.
float integer_step(float max, float limit) { return max > 1e-30f || std::isnan(max) ? max / limit : 1.0f; }

// Largest norm of an int16 query or key before it is rounded. Rounded, no norm exceeds 2^15 - 1 (which leaves
// 2^-12 for the rounding of norms and scales), so that by Cauchy and Schwarz no score and no part of its sum
// exceeds 2^30, and the difference of two fits an int32.
double norm_limit(int64_t head_dim) {
    return (32767.0 - 0.5 * std::sqrt(static_cast<double>(head_dim))) * (1.0 - 0x1p-12);
}

// One head's keys and values as B operands. Keys: panels [key / nr][d step][nr]; values: [d / nr][key
// step][nr].
struct PackedHead {
    uint8_t* keys;
    uint8_t* values;
    float key_scale;      // key = key_scale * stored (1 for the float families)
    float* value_scales;  // [head_dim], likewise
};

struct Layout {
    const KernelTable& table;
    const FamilyKernels& kernels;
    Family family;
    int64_t head_dim, key_rows;
    int64_t d_steps, key_steps, key_panels, d_panels, key_panel_bytes, value_panel_bytes, head_bytes;

    Layout(const KernelTable& t, Family f, int64_t dim, int64_t keys)
        : table(t), kernels(t.family[static_cast<int>(f)]), family(f), head_dim(dim), key_rows(keys) {
        const int64_t kr = family_kr(f), nr = t.nr;
        d_steps = ceil_div(dim, kr);
        key_steps = ceil_div(keys, kr);
        key_panels = ceil_div(keys, nr);
        d_panels = ceil_div(dim, nr);
        key_panel_bytes = d_steps * nr * 4;
        value_panel_bytes = key_steps * nr * 4;
        head_bytes = round_up(key_panels * key_panel_bytes + d_panels * value_panel_bytes + dim * 4, 64);
    }
    PackedHead head(uint8_t* memory) const {
        uint8_t* values = memory + key_panels * key_panel_bytes;
        return {memory, values, 1.0f, reinterpret_cast<float*>(values + d_panels * value_panel_bytes)};
    }
};

struct Scratch {
    Buffer packed, rows, encoded, factors, queries, row_scales, row_shifts, scores, weights, state, output,
        products;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

// Largest |x| of each channel over all rows; NaN where a row is not finite.
void channel_maxima(const Layout& l, const HeadView& view, int64_t b, int64_t head, float* buffer,
                    float* maxima) {
    std::fill(maxima, maxima + l.head_dim, 0.0f);
    for (int64_t r = 0; r < view.rows; ++r)
        l.table.abs_max(float_row(l.table, view, b, head, r, buffer), l.head_dim, maxima);
}

// A row as dwords of the family, zero behind head_dim. `factors` (per channel) are for i16 alone.
void encode(const Layout& l, const float* row, const float* factors, int64_t padded, uint8_t* to) {
    if (l.family == Family::kI16) {
        l.table.scale_to_i16(row, factors, l.head_dim, reinterpret_cast<int16_t*>(to));
    } else {
        RowScale unused;
        l.kernels.encode_row(row, l.head_dim, padded, to, &unused);
    }
}

PackedHead pack_head(const Layout& l, const HeadView& k, const HeadView& v, int64_t b, int64_t head,
                     uint8_t* memory) {
    Scratch& s = scratch();
    const int64_t nr = l.table.nr, kr = family_kr(l.family), padded = round_up(l.head_dim, 64);
    auto* row = s.rows.ensure<float>(padded);
    auto* encoded = s.encoded.ensure<uint8_t>(2 * padded * 4);
    auto* factors = s.factors.ensure<float>(2 * padded);
    float* maxima = factors + padded;
    PackedHead packed = l.head(memory);
    std::memset(encoded, 0, static_cast<size_t>(2 * padded) * 4);

    if (l.family == Family::kI16) {
        float longest = 0.0f;
        for (int64_t key = 0; key < l.key_rows; ++key) {
            const float norm = l.table.norm(float_row(l.table, k, b, head, key, row), l.head_dim);
            longest = norm > longest || std::isnan(norm) ? norm : longest;
        }
        packed.key_scale = integer_step(longest, static_cast<float>(norm_limit(l.head_dim)));
        std::fill(factors, factors + l.head_dim, 1.0f / packed.key_scale);
    }
    // In place of the last panel's missing keys stands the last one.
    for (int64_t key = 0; key < l.key_panels * nr; ++key) {
        if (key < l.key_rows) encode(l, float_row(l.table, k, b, head, key, row), factors, padded, encoded);
        uint8_t* column =
            packed.keys + key / nr * l.key_panel_bytes + l.kernels.key_column(static_cast<int>(key % nr)) * 4;
        for (int64_t step = 0; step < l.d_steps; ++step)
            std::memcpy(column + step * nr * 4, encoded + step * 4, 4);
    }

    std::fill(packed.value_scales, packed.value_scales + l.head_dim, 1.0f);
    if (l.family == Family::kI16) {
        channel_maxima(l, v, b, head, row, maxima);
        for (int64_t d = 0; d < l.head_dim; ++d) {
            packed.value_scales[d] = integer_step(maxima[d], kI16ValueLimit);
            factors[d] = 1.0f / packed.value_scales[d];
        }
    }
    // A step holds kr consecutive keys of every channel; missing channels and keys are zeros.
    const int64_t bytes = family_bytes(l.family);
    for (int64_t step = 0; step < l.key_steps; ++step) {
        for (int64_t i = 0; i < kr; ++i) {
            const int64_t key = step * kr + i;
            if (key < l.key_rows)
                encode(l, float_row(l.table, v, b, head, key, row), factors, padded,
                       encoded + i * padded * 4);
            else
                std::memset(encoded + i * padded * 4, 0, static_cast<size_t>(padded) * 4);
        }
        for (int64_t p = 0; p < l.d_panels; ++p) {
            uint8_t* to = packed.values + p * l.value_panel_bytes + step * nr * 4;
            const uint8_t* even = encoded + p * nr * bytes;  // nr divides 64, to which rows are padded
            if (kr == 1) {
                std::memcpy(to, even, static_cast<size_t>(nr) * 4);
            } else {
                const auto* a = reinterpret_cast<const uint16_t*>(even);
                const auto* c = reinterpret_cast<const uint16_t*>(even + padded * 4);
                auto* pairs = reinterpret_cast<uint32_t*>(to);
                for (int64_t d = 0; d < nr; ++d) pairs[d] = a[d] | static_cast<uint32_t>(c[d]) << 16;
            }
        }
    }
    return packed;
}

// A query as dwords of the family. `unit` is what a product of a stored key and an unrounded query counts in
// units of log2. An int16 query takes the largest factor with which scores are a power of two of a step, so
// that a shift brings them there, and with which its norm is at most norm_limit.
void encode_query(const Layout& l, const float* row, float unit, uint8_t* to, float* scale, int32_t* shift) {
    const int64_t padded = round_up(l.head_dim, 64);
    *scale = unit;
    *shift = 0;
    if (l.family != Family::kI16) return encode(l, row, nullptr, padded, to);
    std::memset(to, 0, static_cast<size_t>(padded) * 2);
    const double length = l.table.norm(row, l.head_dim), steps = std::ldexp(unit, kI16ScoreBits);
    if (!std::isfinite(length * steps)) {
        *scale = std::numeric_limits<float>::quiet_NaN();
    } else if (length * steps > 0.0) {
        *shift = std::min(std::ilogb(norm_limit(l.head_dim) / (length * steps)), 31);
        float* factors = scratch().factors.ensure<float>(2 * padded);
        std::fill(factors, factors + l.head_dim, static_cast<float>(std::ldexp(steps, *shift)));
        encode(l, row, factors, padded, to);
        *scale = std::ldexp(1.0f, -*shift - kI16ScoreBits);
    }
}

// One head's block of queries against all keys.
void attend(const Layout& l, const HeadView& q, const PackedHead& head, int64_t b, int64_t head_index,
            int64_t begin, int64_t end, float scale, const Matrix& out) {
    Scratch& s = scratch();
    const KernelTable& table = l.table;
    const int64_t nr = table.nr, mr = l.kernels.mr, kr = family_kr(l.family), rows = end - begin;
    const int64_t padded = round_up(l.head_dim, 64), q_stride = padded * family_bytes(l.family);
    const int64_t width = l.d_panels * nr, weight_stride = kBlockKeys * family_bytes(l.family);
    const bool integer = family_is_integer(l.family);

    auto* row = s.rows.ensure<float>(padded);
    auto* queries = s.queries.ensure<uint8_t>(rows * q_stride);
    auto* row_scales = s.row_scales.ensure<float>(rows);
    auto* row_shifts = s.row_shifts.ensure<int32_t>(rows);
    for (int64_t r = 0; r < rows; ++r)
        encode_query(l, float_row(table, q, b, head_index, begin + r, row), scale * kLog2E * head.key_scale,
                     queries + r * q_stride, row_scales + r, row_shifts + r);

    auto* scores = s.scores.ensure<uint8_t>(mr * kBlockKeys * 4);
    auto* products = s.products.ensure<uint8_t>(2 * mr * nr * 4);
    uint8_t* rest = products + mr * nr * 4;
    auto* weights = s.weights.ensure<uint8_t>(mr * weight_stride);
    auto* output = s.output.ensure<float>(rows * width);
    auto* running_max = s.state.ensure<float>(2 * rows + 3 * mr);
    float* running_sum = running_max + rows;
    float* keep = running_sum + rows;
    float* gain = keep + mr;
    float* weight_sum = gain + mr;
    std::memset(weights, 0,
                static_cast<size_t>(mr * weight_stride));  // what is behind the last key is finite
    std::fill(running_max, running_max + rows, kNoScore);
    std::fill(running_sum, running_sum + rows, 0.0f);
    std::fill(output, output + rows * width, 0.0f);

    SoftmaxArgs softmax{};
    softmax.scores = scores;
    softmax.score_stride = kBlockKeys;
    softmax.weights = weights;
    softmax.weight_stride = weight_stride;
    softmax.weight_sum = weight_sum;
    softmax.keep = keep;
    softmax.gain = gain;
    const uint8_t *block = head.keys, *values = head.values;  // of the block of keys
    for (int64_t key = 0; key < l.key_rows; key += kBlockKeys) {
        const int64_t keys = std::min(kBlockKeys, l.key_rows - key);
        const int64_t key_steps = ceil_div(keys, kr);
        softmax.keys = static_cast<int>(keys);
        for (int64_t r = 0; r < rows; r += mr) {
            const int tile_rows = static_cast<int>(std::min(mr, rows - r));
            const uint8_t* panel = block;
            for (int64_t n = 0; n < keys; n += nr, panel += l.key_panel_bytes)
                l.kernels.tile(queries + r * q_stride, q_stride, panel, l.d_steps, tile_rows, scores + n * 4,
                               kBlockKeys * 4, false);
            softmax.rows = tile_rows;
            softmax.row_scale = row_scales + r;
            softmax.row_shift = row_shifts + r;
            softmax.running_max = running_max + r;
            softmax.running_sum = running_sum + r;
            l.kernels.softmax(softmax);
            const bool whole =
                l.family != Family::kI16 ||
                std::none_of(weight_sum, weight_sum + tile_rows, [](float x) { return x > kI16WeightSum; });
            const int64_t first_steps = whole ? key_steps : std::min(key_steps, kI16ProductKeys / kr);
            for (int64_t p = 0; p < l.d_panels; ++p) {
                const uint8_t* panel = values + p * l.value_panel_bytes;
                l.kernels.tile(weights, weight_stride, panel, first_steps, tile_rows, products, nr * 4,
                               false);
                if (first_steps < key_steps)
                    l.kernels.tile(weights + first_steps * 4, weight_stride, panel + first_steps * nr * 4,
                                   key_steps - first_steps, tile_rows, rest, nr * 4, false);
                table.merge({products, first_steps < key_steps ? rest : nullptr, weight_sum, nr, tile_rows,
                             static_cast<int>(nr), integer, keep, gain, output + r * width + p * nr, width});
            }
        }
        block += kBlockKeys / nr * l.key_panel_bytes;
        values += kBlockKeys / kr * nr * 4;
    }
    for (int64_t r = 0; r < rows; ++r) {
        const float inverse = 1.0f / running_sum[r];
        for (int64_t d = 0; d < l.head_dim; ++d) row[d] = inverse * head.value_scales[d];
        table.scale_row(output + r * width, row, l.head_dim,
                        out.at(b * q.rows + begin + r, head_index * l.head_dim), out.dtype == DType::kBf16);
    }
}

std::string describe(const HeadView& v) {
    return "(" + std::to_string(v.batch) + ", " + std::to_string(v.rows) + ", " + std::to_string(v.heads) +
           ", " + std::to_string(v.head_dim) + ")";
}

}  // namespace

void attention(const KernelTable& table, Family family, const HeadView& q, const HeadView& k,
               const HeadView& v, float scale, const Matrix& out, int num_threads) {
    constexpr const char* op = "attention";
    check(family != Family::kI8 && family != Family::kQ4, op, "the operand family must be f32, bf16 or i16");
    check(scale > 0.0f && std::isfinite(scale), op, "the scale must be positive and finite");
    check(q.rows > 0 && k.rows > 0 && q.heads > 0 && q.head_dim > 0, op,
          "expected at least one query, key and head");
    check(k.batch == q.batch && v.batch == q.batch && k.heads == q.heads && v.heads == q.heads &&
              k.head_dim == q.head_dim && v.head_dim == q.head_dim && v.rows == k.rows,
          op, [&] {
              return "q " + describe(q) + ", k " + describe(k) + " and v " + describe(v) +
                     " do not fit together";
          });
    check(q.head_dim <= 4096, op,
          [&] { return "head_dim must be at most 4096, got " + std::to_string(q.head_dim); });
    check(out.rows == q.batch * q.rows && out.cols == q.heads * q.head_dim, op, [&] {
        return "the output must be (" + std::to_string(q.batch * q.rows) + ", " +
               std::to_string(q.heads * q.head_dim) + ")";
    });

    const Layout layout(table, family, q.head_dim, k.rows);
    const int64_t heads = q.batch * q.heads, blocks = ceil_div(q.rows, kBlockQueries);
    uint8_t* memory = scratch().packed.ensure<uint8_t>(heads * layout.head_bytes);
    std::vector<PackedHead> packed(static_cast<size_t>(heads));
    parallel_for(heads, 1, num_threads, [&](int64_t h, int64_t) {
        packed[static_cast<size_t>(h)] =
            pack_head(layout, k, v, h / q.heads, h % q.heads, memory + h * layout.head_bytes);
    });
    // Blocks of one head follow each other, so that its keys and values stay in the L2.
    parallel_for(heads * blocks, 1, num_threads, [&](int64_t item, int64_t) {
        const int64_t h = item / blocks, begin = item % blocks * kBlockQueries;
        attend(layout, q, packed[static_cast<size_t>(h)], h / q.heads, h % q.heads, begin,
               std::min(begin + kBlockQueries, q.rows), scale, out);
    });
}

}  // namespace qora
