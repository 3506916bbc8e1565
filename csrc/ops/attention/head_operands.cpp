#include "ops/attention/head_operands.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/float_bits.h"
#include "core/prefetch.h"

namespace qora {
namespace {

// Rows that are encoded together: whole panels.
constexpr int64_t kPackRows = kMaxTileColumns;

// The quantisation step that maps values up to `max` to integers up to `limit`; NaN if max is NaN.
float integer_step(float max, float limit) { return max > 1e-30f || std::isnan(max) ? max / limit : 1.0f; }

// Largest norm of an int16 query or key before it is rounded. After rounding, no norm exceeds 2^15 - 1 (2^-12
// is left for the rounding of norms and scales). By Cauchy-Schwarz, no score and no partial sum of a score
// then exceeds 2^30, and the difference of two scores fits an int32.
double norm_limit(int64_t head_dim) {
    return (32767.0 - 0.5 * std::sqrt(static_cast<double>(head_dim))) * (1.0 - 0x1p-12);
}

struct Scratch {
    Buffer rows, encoded, channels, sums, queries, scales, shifts, factors;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

// Up to kPackRows consecutive rows as float32. They are valid until any FloatRows of this thread reads other
// rows. The hardware does not predict rows that are not contiguous, so the following ones are prefetched.
class FloatRows {
  public:
    FloatRows(const HeadLayout& l, const HeadRows& rows)
        : l_(l),
          rows_(rows),
          apart_(rows.order != nullptr || rows.stride != l.head_dim),
          buffer_(scratch().rows.ensure<float>(kPackRows * l.head_dim)) {}

    // Rows from `first` on; the last row is repeated after the end.
    const float* const* from(int64_t first, int64_t count) {
        const int64_t bytes = l_.head_dim * static_cast<int64_t>(dtype_size(rows_.dtype));
        const int64_t last = rows_.count - 1;
        // The usual case, without a check for each row.
        if (rows_.dtype == DType::kF32 && rows_.order == nullptr) {
            const auto* row = reinterpret_cast<const float*>(rows_.at(first));
            for (int64_t i = 0; i < count; ++i, row += first + i <= last ? rows_.stride : 0) at_[i] = row;
        } else {
            for (int64_t i = 0; i < count; ++i)
                at_[i] = float_row(l_.table, rows_, l_.head_dim, std::min(first + i, last),
                                   buffer_ + i * l_.head_dim);
        }
        for (int64_t i = first + count; apart_ && i <= std::min(first + 2 * count - 1, last); ++i)
            prefetch(rows_.at(i), rows_.at(i) + bytes);
        return at_;
    }

    // Calls body(rows, first, count) for all rows, kPackRows at a time.
    template <class Body>
    void each(Body body) {
        for (int64_t first = 0; first < rows_.count; first += kPackRows) {
            const int64_t count = std::min(kPackRows, rows_.count - first);
            body(from(first, count), first, static_cast<int>(count));
        }
    }

  private:
    const HeadLayout& l_;
    const HeadRows& rows_;
    bool apart_;
    float* buffer_;
    const float* at_[kPackRows];
};

// The range of the values of each channel: low <= value <= high; NaN where a value is not finite.
struct Ranges {
    float *low, *high;

    Ranges(const HeadLayout& l, FloatRows& rows, float* memory) : low(memory), high(memory + l.head_dim) {
        std::fill(low, high, std::numeric_limits<float>::max());
        std::fill(high, high + l.head_dim, std::numeric_limits<float>::lowest());
        rows.each([&](const float* const* at, int64_t, int count) {
            l.table.ranges(at, count, l.head_dim, low, high);
        });
    }
    // Halve both first, so that sum and difference do not overflow.
    float middle(int64_t i) const { return 0.5f * low[i] + 0.5f * high[i]; }
    float half(int64_t i) const { return 0.5f * high[i] - 0.5f * low[i]; }
    float largest(int64_t i) const { return std::max(-low[i], high[i]); }
};

// Keys as integers: (key - offset) / step. For bytes, the offset is the middle of each channel's range; it
// adds the same number to all scores of a query. Float families use keys unchanged.
struct KeyScale {
    float* offsets;  // [head_dim], until the thread scales other rows
    float step = 1.0f;

    KeyScale(const HeadLayout& l, FloatRows& keys)
        : offsets(scratch().channels.ensure<float>(3 * l.head_dim)) {
        std::fill(offsets, offsets + l.head_dim, 0.0f);
        float largest = 0.0f;
        const auto see = [&](float x) { largest = x > largest || std::isnan(x) ? x : largest; };
        if (l.family == Family::kI16) {
            keys.each([&](const float* const* at, int64_t, int count) {
                float lengths[kPackRows];
                l.table.norms(at, count, l.head_dim, lengths);
                std::for_each(lengths, lengths + count, see);
            });
            step = integer_step(largest, static_cast<float>(norm_limit(l.head_dim)));
        }
        if (l.family == Family::kI8) {
            const Ranges ranges(l, keys, offsets + l.head_dim);
            for (int64_t d = 0; d < l.head_dim; ++d) {
                see(ranges.half(d));
                offsets[d] = ranges.middle(d);
            }
            step = integer_step(largest, kI8Limit);
        }
    }
};

// Finds the offset and scale of each channel of values, and returns the factors, [head_dim], that convert
// them to integers. They are valid until the thread scales other rows. For bytes, the offset is the middle of
// the range; it adds the same number to every result.
const float* scale_values(const HeadLayout& l, FloatRows& values, PackedHead& head) {
    const int64_t dim = l.head_dim;
    auto* factors = scratch().channels.ensure<float>(3 * dim);
    std::fill(head.value_offsets, head.value_offsets + dim, 0.0f);
    std::fill(head.value_scales, head.value_scales + dim, 1.0f);
    if (family_is_integer(l.family)) {
        const Ranges ranges(l, values, factors + dim);
        for (int64_t d = 0; d < dim; ++d) {
            if (l.family == Family::kI16) {
                head.value_scales[d] = integer_step(ranges.largest(d), kI16ValueLimit);
            } else {
                head.value_offsets[d] = ranges.middle(d);
                head.value_scales[d] = integer_step(ranges.half(d), kI8Limit);
            }
        }
    }
    for (int64_t d = 0; d < dim; ++d) factors[d] = 1.0f / head.value_scales[d];
    return factors;
}

// Whether rows are operands of the family without a conversion: whole steps, and aligned as dwords.
bool are_operands(const HeadLayout& l, const HeadRows& rows) {
    return l.family == Family::kBf16 && rows.dtype == DType::kBf16 && l.head_dim == 2 * l.d_steps &&
           rows.stride % 2 == 0 && reinterpret_cast<uintptr_t>(rows.data) % 4 == 0;
}

// Rows as dwords of a float family.
void encode_floats(const HeadLayout& l, const float* const* rows, int count, uint8_t* to) {
    RowScale unused[kPackRows];
    l.kernels.encode_rows(rows, count, l.head_dim, round_up(l.head_dim, 64), to, unused);
}

// Rows as dwords of i16, each row multiplied by its factor, or of i8, with the channels' offsets subtracted
// first. Dwords beyond head_dim are not written. Returns the sums of rows of bytes, valid until the thread
// encodes other rows.
const int32_t* encode_integers(const HeadLayout& l, const float* const* rows, int count, const float* offsets,
                               const float* factors, uint8_t* to) {
    const int64_t padded = round_up(l.head_dim, 64);
    auto* sums = scratch().sums.ensure<int32_t>(kPackRows);
    if (l.family == Family::kI8)
        l.table.scale_to_i8(rows, count, l.head_dim, offsets, factors, reinterpret_cast<int8_t*>(to), padded,
                            sums);
    else
        l.table.scale_to_i16(rows, count, l.head_dim, factors, reinterpret_cast<int16_t*>(to), padded);
    return sums;
}

// How an integer query is stored: multiplied by `factor`. The other members are those of EncodedQueries.
struct QueryScale {
    float factor, score;
    int32_t shift;
    int16_t word_factor;
};

// The encoding of an int16 query of some norm. `unit` is the value, in units of log2, of one unit of the
// product of a stored key and an unrounded query. The factor is the largest one with which the unit of a
// score is a power of two of a step, so that a shift converts scores to steps, and with which the norm is at
// most norm_limit. With a bias, no score then exceeds 2^29.
QueryScale word_query(float length, float unit, double limit, bool biased) {
    const double one = 1 << kI16ScoreBits, steps = unit * one, size = length * steps;
    if (!std::isfinite(size)) return {0.0f, std::numeric_limits<float>::quiet_NaN(), 0, 0};
    if (!(size > 0.0)) return {0.0f, static_cast<float>(1.0 / one), 0, 0};
    int shift = std::min(exponent(limit / size), 31);
    if (biased && shift < 1) --shift;
    const double power = power_of_two(shift);
    return {static_cast<float>(steps * power), static_cast<float>(1.0 / (power * one)), shift, 0};
}

// The encoding of a query of bytes whose largest magnitude is `max`. Eight bits have none to spare for a
// power of two. So scores are shifted to words whose unit is less than a step, and a factor between 1/2 and 1
// converts these to steps.
QueryScale byte_query(float max, float unit) {
    const float step = integer_step(max, kI8Limit), score = unit * step;
    if (!(score > 0.0f && std::isfinite(score))) return {1.0f / step, score, 0, 0};
    const double steps = static_cast<double>(score) * (1 << kI8ScoreBits);
    const int power = exponent(steps) + 1;
    const int word_factor = std::min(static_cast<int>(steps * power_of_two(15 - power) + 0.5), 32767);
    // A larger shift would make every score zero.
    return {1.0f / step, score, std::min(-power, 31), static_cast<int16_t>(word_factor)};
}

}  // namespace

HeadLayout::HeadLayout(const KernelTable& t, Family f, int64_t dim, int64_t keys)
    : table(t), kernels(t.family[static_cast<int>(f)]), family(f), head_dim(dim), key_rows(keys) {
    const int64_t kr = family_kr(f), nr = t.nr;
    const bool is_short = dim <= nr / 2;
    value_tile = is_short ? kernels.half_tile : kernels.tile;
    value_nr = is_short ? nr / 2 : nr;
    d_steps = round_up(ceil_div(dim, kr), kernels.step_multiple);
    key_steps = round_up(ceil_div(keys, kr), kernels.step_multiple);
    key_panels = ceil_div(keys, nr);
    d_panels = ceil_div(dim, value_nr);
    key_panel_bytes = d_steps * nr * 4;
    value_panel_bytes = key_steps * value_nr * 4;
    head_bytes = round_up(key_panels * key_panel_bytes + d_panels * value_panel_bytes + 2 * dim * 4 +
                              (f == Family::kI8 ? score_columns() * 4 : 0),
                          64);
}

PackedHead HeadLayout::head(uint8_t* memory) const {
    uint8_t* values = memory + key_panels * key_panel_bytes;
    auto* scales = reinterpret_cast<float*>(values + d_panels * value_panel_bytes);
    float* offsets = scales + head_dim;
    return {memory, values, 1.0f, scales, offsets, reinterpret_cast<int32_t*>(offsets + head_dim)};
}

void HeadLayout::key_columns(int64_t* keys) const {
    for (int64_t key = 0; key < score_columns(); ++key)
        keys[key / table.nr * table.nr + kernels.key_column(static_cast<int>(key % table.nr))] =
            std::min(key, key_rows - 1);
}

EncodedQueries encode_queries(const HeadLayout& l, const HeadRows& q, float unit, bool biased) {
    Scratch& s = scratch();
    const int64_t dim = l.head_dim, padded = round_up(dim, 64), stride = padded * family_bytes(l.family);
    const bool bytes = l.family == Family::kI8;
    auto* to = s.queries.ensure<uint8_t>(q.count * stride);
    auto* scales = s.scales.ensure<float>(q.count);
    auto* shifts = s.shifts.ensure<int32_t>(q.count);
    auto* word_factors = s.factors.ensure<int16_t>(q.count);
    auto* zeros = s.channels.ensure<float>(dim);
    std::fill(scales, scales + q.count, unit);
    std::fill(shifts, shifts + q.count, 0);
    std::fill(word_factors, word_factors + q.count, int16_t{0});
    std::fill(zeros, zeros + dim, 0.0f);
    if (are_operands(l, q) && q.order == nullptr)
        return {q.at(0), q.stride * family_bytes(l.family), scales, shifts, word_factors};
    if (family_is_integer(l.family) && dim % 64 != 0)
        std::memset(to, 0, static_cast<size_t>(q.count * stride));
    FloatRows(l, q).each([&](const float* const* at, int64_t first, int count) {
        uint8_t* rows = to + first * stride;
        if (!family_is_integer(l.family)) return encode_floats(l, at, count, rows);
        float sizes[kPackRows], factors[kPackRows];
        (bytes ? l.table.largest : l.table.norms)(at, count, dim, sizes);
        for (int i = 0; i < count; ++i) {
            const QueryScale query =
                bytes ? byte_query(sizes[i], unit) : word_query(sizes[i], unit, norm_limit(dim), biased);
            factors[i] = query.factor;
            scales[first + i] = query.score;
            shifts[first + i] = query.shift;
            word_factors[first + i] = query.word_factor;
        }
        encode_integers(l, at, count, zeros, factors, rows);
        // A zero point of 128 is the upper bit.
        const auto upper_bit = static_cast<uint8_t>(l.table.i8_zero_point);
        for (int64_t i = 0; bytes && i < count * stride; ++i) rows[i] ^= upper_bit;
    });
    return {to, stride, scales, shifts, word_factors};
}

void pack_keys(const HeadLayout& l, const HeadRows& k, PackedHead& head) {
    Scratch& s = scratch();
    const int64_t nr = l.table.nr, dim = l.head_dim, row_bytes = round_up(dim, 64) * family_bytes(l.family);
    const int all = static_cast<int>(nr);
    auto* encoded = s.encoded.ensure<uint8_t>(nr * row_bytes);
    FloatRows keys(l, k);
    const KeyScale scale(l, keys);
    head.key_scale = scale.step;
    if (family_is_integer(l.family) && dim % 64 != 0)
        std::memset(encoded, 0, static_cast<size_t>(nr * row_bytes));
    float factors[kPackRows];
    std::fill(factors, factors + nr, 1.0f / scale.step);
    int column_of[kPackRows];
    const uint8_t* columns[kPackRows];
    for (int i = 0; i < all; ++i) {
        column_of[i] = l.kernels.key_column(i);
        columns[column_of[i]] = encoded + i * row_bytes;
    }
    uint8_t* panel = head.keys;
    // The last key is repeated to fill the last panel.
    for (int64_t key = 0; key < l.key_rows; key += nr, panel += l.key_panel_bytes) {
        if (are_operands(l, k)) {
            for (int i = 0; i < all; ++i) columns[column_of[i]] = k.at(std::min(key + i, l.key_rows - 1));
        } else if (family_is_integer(l.family)) {
            const int32_t* sums =
                encode_integers(l, keys.from(key, nr), all, scale.offsets, factors, encoded);
            for (int i = 0; l.family == Family::kI8 && i < all; ++i)
                head.corrections[key + column_of[i]] = -l.table.i8_zero_point * sums[i];
        } else {
            encode_floats(l, keys.from(key, nr), all, encoded);
        }
        l.table.transpose(columns, all, l.d_steps, panel, nr);
    }
}

void pack_values(const HeadLayout& l, const HeadRows& v, PackedHead& head) {
    const int64_t nr = l.table.nr, kr = family_kr(l.family), dim = l.head_dim;
    FloatRows values(l, v);
    const float* factors = scale_values(l, values, head);
    for (int64_t key = 0; key < l.key_rows; key += nr) {
        const int count = static_cast<int>(std::min(nr, l.key_rows - key));
        const float* const* rows = values.from(key, count);
        for (int64_t p = 0; p < l.d_panels; ++p) {
            const int64_t first = p * l.value_nr;
            l.kernels.pack_steps(rows, count, first, std::min(l.value_nr, dim - first), head.value_offsets,
                                 factors, head.values + p * l.value_panel_bytes + key / kr * l.value_nr * 4,
                                 l.value_nr);
        }
    }
    // The steps that pad the sum are zeros.
    const int64_t step_bytes = l.value_nr * 4, written = ceil_div(l.key_rows, kr) * step_bytes;
    for (int64_t p = 0; written < l.value_panel_bytes && p < l.d_panels; ++p)
        std::memset(head.values + p * l.value_panel_bytes + written, 0,
                    static_cast<size_t>(l.value_panel_bytes - written));
}

}  // namespace qora
