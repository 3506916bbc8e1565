// One head of streaming attention: its keys and values as right operands, and blocks of queries against them.
// What is a head, which rows it has and where results go is the caller's business.
#pragma once

#include "ops/attention/head_operands.h"

namespace qora {

// Query rows that share a pass over the keys: their operands, weights and outputs stay in the L1 and L2.
constexpr int64_t kBlockQueries = 96;

// Most keys that share a softmax step. What is done once for each block of keys, such as merging it, takes
// time; but integer weights are rounded in proportion to the largest of their block, bytes most of all. Tiles
// of sixteen rows take less time than it takes to bring them keys, values and scores from the L2: bytes of
// 128 keys stay in the L1.
int64_t max_block_keys(const KernelTable& table, Family family);

// What is added to the scores of a block of queries: rows of score_columns() values in the order of
// key_columns(), float32 in units of log2, or, for i16, int32 steps of 2^-kI16ScoreBits.
struct ScoreBias {
    const void* const* rows;   // for each query
    const void* const* masks;  // a second one for each query; null = none
};
// Largest |bias| of the i16 family in steps: with a score of 2^29 it stays below 2^30, so that the difference
// of two fits an int32.
constexpr int64_t kMaxBiasSteps = int64_t{1} << 28;

// out = softmax(scale q kᵀ + bias) v for some queries, about kBlockQueries; bias may be null.
void attend(const HeadLayout& layout, const HeadRows& q, const PackedHead& head, float scale,
            const ScoreBias* bias, const HeadResult& out);

}  // namespace qora
