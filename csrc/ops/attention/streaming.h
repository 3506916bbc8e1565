// One head of streaming attention: its keys and values as right operands, and blocks of queries. The caller
// decides which rows a head has and where results are written.
#pragma once

#include "ops/attention/head_operands.h"

namespace qora {

// Query rows that share a pass over the keys: their operands, weights and outputs stay in the L1 and L2.
constexpr int64_t kBlockQueries = 96;

// The most keys of one softmax step. Large blocks save the work that is done once for each block, such as
// merging. Small blocks are more accurate: integer weights, above all bytes, are rounded in proportion to the
// largest weight of their block. Tiles of sixteen rows compute faster than the L2 cache supplies keys, values
// and scores; bytes of 128 keys stay in the L1 cache.
int64_t max_block_keys(const KernelTable& table, Family family);

// The bias of the scores of a block of queries: rows of score_columns() values in the order of key_columns(),
// float32 in units of log2 or, for i16, int32 steps of 2^-kI16ScoreBits.
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
