// Queries, keys and values of a head as operands of tiles, and their scales.
#pragma once

#include "ops/attention/heads.h"

namespace qora {

// One head's keys and values as B operands. Keys: panels [key / nr][d step][nr]; values: [d / value_nr][key
// step][value_nr].
struct PackedHead {
    uint8_t* keys;
    uint8_t* values;
    float key_scale;  // key = key_scale * stored + a constant for all scores (1 for float families)
    // [head_dim]: value = value_scale * stored + value_offset, 1 and 0 for float families.
    float* value_scales;
    float* value_offsets;
    int32_t* corrections;  // i8: the contribution of the queries' zero point to each column, negated
};

// How the heads of one operation are laid out: all have the same number of keys.
struct HeadLayout {
    const KernelTable& table;
    const FamilyKernels& kernels;
    Family family;
    int64_t head_dim, key_rows;
    TileFn value_tile;  // of value_nr columns: half of nr where a head has no more channels
    int64_t value_nr;
    int64_t d_steps, key_steps, key_panels, d_panels, key_panel_bytes, value_panel_bytes, head_bytes;

    HeadLayout(const KernelTable& table, Family family, int64_t head_dim, int64_t key_rows);
    // A head that will be packed into head_bytes bytes of memory, aligned to 64 bytes.
    PackedHead head(uint8_t* memory) const;
    // Columns of a row of scores: the keys, padded to whole panels.
    int64_t score_columns() const { return key_panels * table.nr; }
    // The key of each column of scores; after the last key, the last key again.
    void key_columns(int64_t* keys) const;
};

// Pack keys and values into a head's memory, with their scales. Two threads may call one each at the same
// time.
void pack_keys(const HeadLayout& layout, const HeadRows& k, PackedHead& head);
void pack_values(const HeadLayout& layout, const HeadRows& v, PackedHead& head);

// Queries as a left operand, and the conversion of a row's accumulators to scores: an accumulator times
// `scale` is a score in units of log2; shifts and factors are those of SoftmaxArgs. Valid until the thread
// encodes other queries.
struct EncodedQueries {
    const uint8_t* rows;
    ptrdiff_t stride;  // bytes
    const float* scales;
    const int32_t* shifts;
    const int16_t* factors;
};

// `unit` is the value, in units of log2, of one unit of the product of an encoded key and an unencoded query.
// `biased`: a bias is added to the scores.
EncodedQueries encode_queries(const HeadLayout& layout, const HeadRows& q, float unit, bool biased);

}  // namespace qora
