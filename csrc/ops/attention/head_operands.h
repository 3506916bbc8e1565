// Queries, keys and values of a head as operands of its tiles, and the scales that go with them.
#pragma once

#include "ops/attention/heads.h"

namespace qora {

// One head's keys and values as B operands. Keys: panels [key / nr][d step][nr]; values: [d / value_nr][key
// step][value_nr].
struct PackedHead {
    uint8_t* keys;
    uint8_t* values;
    float key_scale;  // key = key_scale * stored + what adds the same to all scores (1 for float families)
    // [head_dim]: value = value_scale * stored + value_offset, 1 and 0 for float families.
    float* value_scales;
    float* value_offsets;
    int32_t* corrections;  // i8: what the zero point of queries adds to each column of scores, negated
};

// How the heads of one operation are laid out: all have the same number of keys.
struct HeadLayout {
    const KernelTable& table;
    const FamilyKernels& kernels;
    Family family;
    int64_t head_dim, key_rows;
    TileFn value_tile;  // of value_nr columns: half as many as other tiles where a head fills no more
    int64_t value_nr;
    int64_t d_steps, key_steps, key_panels, d_panels, key_panel_bytes, value_panel_bytes, head_bytes;

    HeadLayout(const KernelTable& table, Family family, int64_t head_dim, int64_t key_rows);
    // A head to be packed in head_bytes bytes of memory, aligned to 64.
    PackedHead head(uint8_t* memory) const;
    // Columns of a row of scores: the keys, and what fills their last panel.
    int64_t score_columns() const { return key_panels * table.nr; }
    // The key whose scores stand in a column; behind the last key that one again.
    void key_columns(int64_t* keys) const;
};

// Write keys and values to a head's memory, and their scales. Two threads may do one each.
void pack_keys(const HeadLayout& layout, const HeadRows& k, PackedHead& head);
void pack_values(const HeadLayout& layout, const HeadRows& v, PackedHead& head);

// Queries as a left operand, and what turns a row's accumulators into scores: `scale` times one is a score in
// units of log2; shifts and factors are those of SoftmaxArgs. They stay until the thread encodes others.
struct EncodedQueries {
    const uint8_t* rows;
    ptrdiff_t stride;  // bytes
    const float* scales;
    const int32_t* shifts;
    const int16_t* factors;
};

// `unit` is what a product of an encoded key and a query as it is counts in units of log2; `biased`:
// something is added to scores.
EncodedQueries encode_queries(const HeadLayout& layout, const HeadRows& q, float unit, bool biased);

}  // namespace qora
