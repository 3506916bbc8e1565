// One head of streaming attention: its keys and values as right operands, and blocks of queries against them.
// What is a head, which rows it has and where results go is the caller's business.
#pragma once

#include "ops/attention.h"

namespace qora {

// Query rows that share a pass over the keys: their operands, weights and outputs stay in the L1 and L2.
constexpr int64_t kBlockQueries = 96;

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

// What is added to the scores of a block of queries: rows of score_columns() values in the order of
// key_columns(), float32 in units of log2, or, for i16, int32 steps of 2^-kI16ScoreBits.
struct ScoreBias {
    const void* const* rows;   // for each query
    const void* const* masks;  // a second one for each query; null = none
};
// Largest |bias| of the i16 family in steps: with a score of 2^29 it stays below 2^30, so that the difference
// of two fits an int32.
constexpr int64_t kMaxBiasSteps = int64_t{1} << 28;

// Write keys and values to a head's memory, and their scales. Two threads may do one each.
void pack_keys(const HeadLayout& layout, const HeadRows& k, PackedHead& head);
void pack_values(const HeadLayout& layout, const HeadRows& v, PackedHead& head);

// out = softmax(scale q kᵀ + bias) v for some queries, about kBlockQueries; bias may be null.
void attend(const HeadLayout& layout, const HeadRows& q, const PackedHead& head, float scale,
            const ScoreBias* bias, const HeadResult& out);

}  // namespace qora
