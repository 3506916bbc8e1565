#include "ops/streaming_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/prefetch.h"

namespace qora {
namespace {

// Keys that share a softmax step; a multiple of every tile's columns. Integer products limit it.
constexpr int64_t kBlockKeys = 512, kI16BlockKeys = 256;
// Rows that are encoded together, a multiple of every tile's columns.
constexpr int64_t kPackRows = 64;
static_assert(kI16BlockKeys <= 2 * kI16ProductKeys, "a block of weights needs more than two parts");

// Step of integers up to `limit` that stand for values up to `max`; NaN when max is.
float integer_step(float max, float limit) { return max > 1e-30f || std::isnan(max) ? max / limit : 1.0f; }

// Largest norm of an int16 query or key before it is rounded. Rounded, no norm exceeds 2^15 - 1 (which leaves
// 2^-12 for the rounding of norms and scales), so that by Cauchy and Schwarz no score and no part of its sum
// exceeds 2^30, and the difference of two fits an int32.
double norm_limit(int64_t head_dim) {
    return (32767.0 - 0.5 * std::sqrt(static_cast<double>(head_dim))) * (1.0 - 0x1p-12);
}

struct Scratch {
    Buffer rows, encoded, factors, queries, row_scales, row_shifts, scores, weights, state, output, products;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

// Some consecutive rows as float32: kPackRows at most, until any FloatRows is asked for others. Those behind
// are prefetched, since rows that lie apart surprise the hardware.
class FloatRows {
  public:
    FloatRows(const HeadLayout& l, const HeadRows& rows)
        : l_(l), rows_(rows), buffer_(scratch().rows.ensure<float>(kPackRows * l.head_dim)) {}

    // Rows from `first` on; behind the last one that again.
    const float* const* from(int64_t first, int64_t count) {
        const int64_t bytes = l_.head_dim * static_cast<int64_t>(dtype_size(rows_.dtype));
        for (int64_t i = 0; i < count; ++i) {
            at_[i] = float_row(l_.table, rows_, l_.head_dim, std::min(first + i, rows_.count - 1),
                               buffer_ + i * l_.head_dim);
            const int64_t ahead = first + count + i;
            if (ahead < rows_.count) prefetch(rows_.at(ahead), rows_.at(ahead) + bytes);
        }
        return at_;
    }

  private:
    const HeadLayout& l_;
    const HeadRows& rows_;
    float* buffer_;
    const float* at_[kPackRows];
};

// Rows as dwords of the family, each `padded` values long; i16 takes them times their factors.
void encode(const HeadLayout& l, const float* const* rows, int64_t count, const float* factors,
            int64_t padded, uint8_t* to) {
    if (l.family == Family::kI16)
        return l.table.scale_to_i16(rows, static_cast<int>(count), l.head_dim, factors,
                                    reinterpret_cast<int16_t*>(to), padded);
    RowScale unused;
    for (int64_t r = 0; r < count; ++r, to += padded * family_bytes(l.family))
        l.kernels.encode_row(rows[r], l.head_dim, padded, to, &unused);
}

// How an int16 query of some length is stored. `unit` is what a product of a stored key and an unrounded
// query counts in units of log2. It takes the largest factor with which scores are a power of two of a step,
// so that a shift brings them there, and with which its norm is at most norm_limit; where a bias is added, no
// score exceeds 2^29 then.
struct QueryScale {
    float factor, score;
    int32_t shift;

    QueryScale(float length, float unit, double limit, bool biased) : factor(0.0f), shift(0) {
        const double steps = std::ldexp(unit, kI16ScoreBits), size = length * steps;
        score = std::ldexp(1.0f, -kI16ScoreBits);
        if (!std::isfinite(size)) {
            score = std::numeric_limits<float>::quiet_NaN();
        } else if (size > 0.0) {
            shift = std::min(std::ilogb(limit / size), 31);
            if (biased && shift < 1) --shift;
            factor = static_cast<float>(std::ldexp(steps, shift));
            score = std::ldexp(1.0f, -shift - kI16ScoreBits);
        }
    }
};

// Queries as a left operand, and what turns a row's accumulators into scores. `unit` as of QueryScale.
void encode_queries(const HeadLayout& l, const HeadRows& q, float unit, bool biased, uint8_t* to,
                    float* scales, int32_t* shifts) {
    const int64_t padded = round_up(l.head_dim, 64), row_bytes = padded * family_bytes(l.family);
    std::fill(scales, scales + q.count, unit);
    std::fill(shifts, shifts + q.count, 0);
    if (l.family == Family::kI16)
        std::memset(to, 0, static_cast<size_t>(q.count * row_bytes));  // behind head_dim
    FloatRows rows(l, q);
    for (int64_t first = 0; first < q.count; first += kPackRows) {
        const int64_t count = std::min(kPackRows, q.count - first);
        const float* const* at = rows.from(first, count);
        float factors[kPackRows], lengths[kPackRows];
        if (l.family == Family::kI16) {
            l.table.norms(at, static_cast<int>(count), l.head_dim, lengths);
            for (int64_t i = 0; i < count; ++i) {
                const QueryScale query(lengths[i], unit, norm_limit(l.head_dim), biased);
                factors[i] = query.factor;
                scales[first + i] = query.score;
                shifts[first + i] = query.shift;
            }
        }
        encode(l, at, count, factors, padded, to + first * row_bytes);
    }
}

}  // namespace

HeadLayout::HeadLayout(const KernelTable& t, Family f, int64_t dim, int64_t keys)
    : table(t), kernels(t.family[static_cast<int>(f)]), family(f), head_dim(dim), key_rows(keys) {
    const int64_t kr = family_kr(f), nr = t.nr;
    const bool is_short = dim <= nr / 2;
    value_tile = is_short ? kernels.half_tile : kernels.tile;
    value_nr = is_short ? nr / 2 : nr;
    d_steps = ceil_div(dim, kr);
    key_steps = ceil_div(keys, kr);
    key_panels = ceil_div(keys, nr);
    d_panels = ceil_div(dim, value_nr);
    key_panel_bytes = d_steps * nr * 4;
    value_panel_bytes = key_steps * value_nr * 4;
    head_bytes = round_up(key_panels * key_panel_bytes + d_panels * value_panel_bytes + dim * 4, 64);
}

int64_t query_block(const HeadLayout& l, int64_t rows) {
    return round_up(ceil_div(rows, ceil_div(rows, kBlockQueries)), l.kernels.mr);
}

PackedHead HeadLayout::head(uint8_t* memory) const {
    uint8_t* values = memory + key_panels * key_panel_bytes;
    return {memory, values, 1.0f, reinterpret_cast<float*>(values + d_panels * value_panel_bytes)};
}

void HeadLayout::key_columns(int64_t* keys) const {
    for (int64_t key = 0; key < score_columns(); ++key)
        keys[key / table.nr * table.nr + kernels.key_column(static_cast<int>(key % table.nr))] =
            std::min(key, key_rows - 1);
}

PackedHead pack_head(const HeadLayout& l, const HeadRows& k, const HeadRows& v, uint8_t* memory) {
    Scratch& s = scratch();
    const int64_t nr = l.table.nr, kr = family_kr(l.family), padded = round_up(l.head_dim, 64);
    const int64_t row_bytes = padded * family_bytes(l.family);
    auto* encoded = s.encoded.ensure<uint8_t>(nr * row_bytes);
    auto* factors = s.factors.ensure<float>(nr + 2 * l.head_dim);
    float* value_factors = factors + nr;
    float* maxima = value_factors + l.head_dim;
    PackedHead packed = l.head(memory);
    std::fill(packed.value_scales, packed.value_scales + l.head_dim, 1.0f);
    std::fill(factors, maxima, 1.0f);
    FloatRows rows(l, k), values(l, v);
    if (l.family == Family::kI16) {
        float longest = 0.0f, lengths[kPackRows];
        std::fill(maxima, maxima + l.head_dim, 0.0f);
        for (int64_t key = 0; key < l.key_rows; key += kPackRows) {
            const int count = static_cast<int>(std::min(kPackRows, l.key_rows - key));
            l.table.norms(rows.from(key, count), count, l.head_dim, lengths);
            for (int i = 0; i < count; ++i)
                longest = lengths[i] > longest || std::isnan(lengths[i]) ? lengths[i] : longest;
            l.table.abs_max(values.from(key, count), count, l.head_dim, maxima);
        }
        packed.key_scale = integer_step(longest, static_cast<float>(norm_limit(l.head_dim)));
        std::fill(factors, factors + nr, 1.0f / packed.key_scale);
        for (int64_t d = 0; d < l.head_dim; ++d) {
            packed.value_scales[d] = integer_step(maxima[d], kI16ValueLimit);
            value_factors[d] = 1.0f / packed.value_scales[d];
        }
        std::memset(encoded, 0, static_cast<size_t>(nr * row_bytes));  // behind head_dim
    }
    const uint8_t* columns[kPackRows];
    for (int64_t i = 0; i < nr; ++i)
        columns[l.kernels.key_column(static_cast<int>(i))] = encoded + i * row_bytes;
    uint8_t* panel = packed.keys;
    for (int64_t key = 0; key < l.key_rows; key += nr, panel += l.key_panel_bytes) {
        // In place of the last panel's missing keys stands the last one.
        encode(l, rows.from(key, nr), nr, factors, padded, encoded);
        l.table.transpose(columns, static_cast<int>(nr), l.d_steps, panel, nr);
        const int count = static_cast<int>(std::min(nr, l.key_rows - key));
        const float* const* at = values.from(key, count);
        for (int64_t p = 0; p < l.d_panels; ++p) {
            const float* of_panel[kPackRows];
            for (int i = 0; i < count; ++i) of_panel[i] = at[i] + p * l.value_nr;
            l.kernels.pack_steps(of_panel, count, value_factors + p * l.value_nr,
                                 std::min(l.value_nr, l.head_dim - p * l.value_nr),
                                 packed.values + p * l.value_panel_bytes + key / kr * l.value_nr * 4,
                                 l.value_nr);
        }
    }
    return packed;
}

void attend(const HeadLayout& l, const HeadRows& q, const PackedHead& head, float scale,
            const ScoreBias* bias, const HeadResult& out) {
    Scratch& s = scratch();
    const KernelTable& table = l.table;
    const int64_t nr = table.nr, mr = l.kernels.mr, kr = family_kr(l.family), rows = q.count;
    const int64_t padded = round_up(l.head_dim, 64), q_stride = padded * family_bytes(l.family);
    const bool integer = family_is_integer(l.family);
    const int64_t block_keys = integer ? kI16BlockKeys : kBlockKeys;
    const int64_t value_nr = l.value_nr, width = l.d_panels * value_nr,
                  weight_stride = block_keys * family_bytes(l.family);

    auto* queries = s.queries.ensure<uint8_t>(rows * q_stride);
    // Of accumulators, and of what the softmax reads: the same, unless a bias comes between.
    auto* row_scales = s.row_scales.ensure<float>(2 * rows);
    auto* row_shifts = s.row_shifts.ensure<int32_t>(2 * rows);
    float* score_scales = row_scales + (bias == nullptr ? 0 : rows);
    int32_t* score_shifts = row_shifts + (bias == nullptr ? 0 : rows);
    encode_queries(l, q, scale * kLog2E * head.key_scale, bias != nullptr, queries, row_scales, row_shifts);
    for (int64_t r = 0; bias != nullptr && r < rows; ++r) {
        score_shifts[r] = std::min(row_shifts[r], 0);
        score_scales[r] = integer ? std::ldexp(row_scales[r], std::max(row_shifts[r], 0)) : 1.0f;
    }

    auto* scores = s.scores.ensure<uint8_t>(mr * block_keys * 4);
    auto* products = s.products.ensure<uint8_t>(2 * mr * value_nr * 4);
    uint8_t* rest = products + mr * value_nr * 4;
    auto* weights = s.weights.ensure<uint8_t>(mr * weight_stride);
    auto* output = s.output.ensure<float>(rows * width);
    auto* reference = s.state.ensure<float>(2 * rows + 3 * mr);
    float* running_sum = reference + rows;
    float* keep = running_sum + rows;
    float* gain = keep + mr;
    float* weight_sum = gain + mr;
    std::memset(weights, 0,
                static_cast<size_t>(mr * weight_stride));  // what is behind the last key is finite
    std::fill(reference, reference + rows, kNoScore);
    std::fill(running_sum, running_sum + rows, 0.0f);
    std::fill(output, output + rows * width, 0.0f);

    SoftmaxArgs softmax{};
    softmax.scores = scores;
    softmax.score_stride = block_keys;
    softmax.weights = weights;
    softmax.weight_stride = weight_stride;
    softmax.weight_sum = weight_sum;
    softmax.keep = keep;
    softmax.gain = gain;
    ScoreBiasArgs added{};
    added.scores = scores;
    added.score_stride = block_keys;
    const uint8_t *block = head.keys, *values = head.values;  // of the block of keys
    for (int64_t key = 0; key < l.key_rows; key += block_keys) {
        const int64_t keys = std::min(block_keys, l.key_rows - key);
        const int64_t key_steps = ceil_div(keys, kr);
        softmax.keys = static_cast<int>(keys);
        softmax.first = key == 0;
        for (int64_t r = 0; r < rows; r += mr) {
            const int tile_rows = static_cast<int>(std::min(mr, rows - r));
            for (int64_t i = r; key + keys == l.key_rows && i < r + tile_rows; ++i)
                prefetch_write(out.at(i),
                               out.at(i) + l.head_dim * static_cast<int64_t>(dtype_size(out.dtype)));
            const uint8_t* panel = block;
            for (int64_t n = 0; n < keys; n += nr, panel += l.key_panel_bytes)
                l.kernels.tile(queries + r * q_stride, q_stride, panel, l.d_steps, tile_rows, scores + n * 4,
                               block_keys * 4, false, {panel, 0});
            if (bias != nullptr) {
                added.rows = tile_rows;
                added.first = static_cast<int>(key);
                added.columns = static_cast<int>(round_up(keys, nr));
                added.row_scale = row_scales + r;
                added.row_shift = row_shifts + r;
                added.bias = bias->rows + r;
                added.mask = bias->masks == nullptr ? nullptr : bias->masks + r;
                l.kernels.add_bias(added);
            }
            softmax.rows = tile_rows;
            softmax.row_scale = score_scales + r;
            softmax.row_shift = score_shifts + r;
            softmax.reference = reference + r;
            softmax.running_sum = running_sum + r;
            const bool simply_added = l.kernels.softmax(softmax);
            const bool whole =
                l.family != Family::kI16 ||
                std::none_of(weight_sum, weight_sum + tile_rows, [](float x) { return x > kI16WeightSum; });
            const int64_t first_steps = whole ? key_steps : std::min(key_steps, kI16ProductKeys / kr);
            for (int64_t p = 0; p < l.d_panels; ++p) {
                const uint8_t* panel = values + p * l.value_panel_bytes;
                float* to = output + r * width + p * value_nr;
                if (simply_added) {
                    l.value_tile(weights, weight_stride, panel, key_steps, tile_rows, to, width * 4, key > 0,
                                 {panel, 0});
                    continue;
                }
                l.value_tile(weights, weight_stride, panel, first_steps, tile_rows, products, value_nr * 4,
                             false, {panel, 0});
                if (first_steps < key_steps)
                    l.value_tile(weights + first_steps * 4, weight_stride, panel + first_steps * value_nr * 4,
                                 key_steps - first_steps, tile_rows, rest, value_nr * 4, false, {panel, 0});
                table.merge({products, first_steps < key_steps ? rest : nullptr, weight_sum, value_nr,
                             tile_rows, static_cast<int>(value_nr), integer, keep, gain, to, width});
            }
        }
        block += block_keys / nr * l.key_panel_bytes;
        values += block_keys / kr * value_nr * 4;
    }
    for (int64_t r = 0; r < rows; ++r)
        table.scale_row(output + r * width, head.value_scales, 1.0f / running_sum[r], l.head_dim, out.at(r),
                        out.dtype == DType::kBf16);
}

}  // namespace qora
