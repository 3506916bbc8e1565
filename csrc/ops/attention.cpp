#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/parallel.h"

namespace qora {
namespace {

constexpr float kLog2E = 1.44269504088896f;
// Query rows that share a pass over the keys: their operands, weights and outputs stay in the L1 and L2.
constexpr int64_t kBlockQueries = 96;
// Keys that share a softmax step; a multiple of every tile's columns.
constexpr int64_t kBlockKeys = 256;
// Largest |q| of an encoded int16 query; keys get the rest of an int32 accumulator's bits.
constexpr int kQueryLimit = 4095;

// Step of integers up to `limit` that stand for values up to `max`; NaN when max is.
float integer_step(float max, int limit) {
    return max > 1e-30f || std::isnan(max) ? max / static_cast<float>(limit) : 1.0f;
}

int key_limit(int64_t head_dim) {
    const int64_t limit = std::numeric_limits<int32_t>::max() / (kQueryLimit * head_dim);
    return static_cast<int>(std::min<int64_t>(limit, std::numeric_limits<int16_t>::max()));
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
    int64_t product_keys;  // keys of one P·V product: what its accumulators can hold, at most a block
    int64_t d_steps, key_steps, key_panels, d_panels, key_panel_bytes, value_panel_bytes, head_bytes;

    Layout(const KernelTable& t, Family f, int64_t dim, int64_t keys)
        : table(t), kernels(t.family[static_cast<int>(f)]), family(f), head_dim(dim), key_rows(keys) {
        const int64_t kr = family_kr(f), nr = t.nr;
        product_keys = f == Family::kI16 ? kI16ProductKeys : kBlockKeys;
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
    Buffer packed, rows, encoded, factors, queries, query_scales, scores, weights, state, output, products;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

const float* float_row(const KernelTable& table, const HeadView& view, int64_t b, int64_t head, int64_t row,
                       float* buffer) {
    const uint8_t* at = view.at(b, head, row);
    if (view.dtype == DType::kF32) return reinterpret_cast<const float*>(at);
    table.bf16_to_f32(reinterpret_cast<const uint16_t*>(at), view.head_dim, buffer);
    return buffer;
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
        l.kernels.encode_row(row, l.head_dim, padded, 0, to, &unused);
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
        channel_maxima(l, k, b, head, row, maxima);
        float high = 0.0f;
        for (int64_t d = 0; d < l.head_dim; ++d)
            high = maxima[d] > high || std::isnan(maxima[d]) ? maxima[d] : high;
        packed.key_scale = integer_step(high, key_limit(l.head_dim));
        std::fill(factors, factors + l.head_dim, 1.0f / packed.key_scale);
    }
    // The last panel's missing keys are zeros.
    std::memset(packed.keys + (l.key_panels - 1) * l.key_panel_bytes, 0,
                static_cast<size_t>(l.key_panel_bytes));
    for (int64_t key = 0; key < l.key_rows; ++key) {
        encode(l, float_row(l.table, k, b, head, key, row), factors, padded, encoded);
        uint8_t* column = packed.keys + key / nr * l.key_panel_bytes + key % nr * 4;
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
    auto* query_scales = s.query_scales.ensure<float>(rows);
    for (int64_t r = 0; r < rows; ++r) {
        RowScale encoded;
        l.kernels.encode_row(float_row(table, q, b, head_index, begin + r, row), l.head_dim, padded,
                             kQueryLimit, queries + r * q_stride, &encoded);
        query_scales[r] = encoded.scale * head.key_scale * scale * kLog2E;
    }

    auto* scores = s.scores.ensure<uint8_t>(mr * kBlockKeys * 4);
    auto* products = s.products.ensure<uint8_t>(mr * nr * 4);
    auto* weights = s.weights.ensure<uint8_t>(mr * weight_stride);
    auto* output = s.output.ensure<float>(rows * width);
    auto* running_max = s.state.ensure<float>(2 * rows + 3 * mr);
    float* running_sum = running_max + rows;
    float* keep = running_sum + rows;
    float* gain = keep + mr;
    float* ones = gain + mr;
    std::fill(ones, ones + mr, 1.0f);
    std::fill(running_max, running_max + rows, kNoScore);
    std::fill(running_sum, running_sum + rows, 0.0f);
    std::fill(output, output + rows * width, 0.0f);

    for (int64_t key = 0; key < l.key_rows; key += kBlockKeys) {
        const int64_t keys = std::min(kBlockKeys, l.key_rows - key);
        for (int64_t r = 0; r < rows; r += mr) {
            const int tile_rows = static_cast<int>(std::min(mr, rows - r));
            for (int64_t n = 0; n < keys; n += nr)
                l.kernels.tile(queries + r * q_stride, q_stride,
                               head.keys + (key + n) / nr * l.key_panel_bytes, l.d_steps, tile_rows,
                               scores + n * 4, kBlockKeys * 4, false);
            SoftmaxArgs a{};
            a.scores = scores;
            a.score_stride = kBlockKeys;
            a.rows = tile_rows;
            a.keys = static_cast<int>(keys);
            a.keys_padded = static_cast<int>(round_up(keys, 16));
            a.row_scale = query_scales + r;
            a.weights = weights;
            a.weight_stride = weight_stride;
            a.running_max = running_max + r;
            a.running_sum = running_sum + r;
            a.keep = keep;
            a.gain = gain;
            l.kernels.softmax(a);
            for (int64_t first = 0; first < keys; first += l.product_keys) {
                const int64_t steps = ceil_div(std::min(l.product_keys, keys - first), kr);
                const uint8_t* values = head.values + (key + first) / kr * nr * 4;
                for (int64_t p = 0; p < l.d_panels; ++p) {
                    l.kernels.tile(weights + first / kr * 4, weight_stride, values + p * l.value_panel_bytes,
                                   steps, tile_rows, products, nr * 4, false);
                    table.merge({products, nr, tile_rows, static_cast<int>(nr), integer,
                                 first == 0 ? keep : ones, gain, output + r * width + p * nr, width});
                }
            }
        }
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
