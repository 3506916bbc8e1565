// Attention over a sequence so short that encoding and packing its operands would cost more than the
// products.
#pragma once

#include <cstdint>

#include "kernels/algorithms/math.inl.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

// kShortRows queries, or vectors of values, are processed together: their sums are independent chains, and
// their common operand is loaded once.

// Scores of Rows queries with one vector of keys, which are contiguous for each channel.
template <class V, int Rows>
inline void short_scores(const ShortAttentionArgs& a, const float* queries, const float* keys,
                         float* scores) {
    typename V::F sums[Rows];
    for (int r = 0; r < Rows; ++r) sums[r] = V::set(0.0f);
    for (int64_t d = 0; d < a.head_dim; ++d) {
        const auto key = V::load(keys + d * a.keys_padded);
        for (int r = 0; r < Rows; ++r) sums[r] = V::fma(V::set(queries[r * a.padded + d]), key, sums[r]);
    }
    for (int r = 0; r < Rows; ++r) V::store(scores + r * a.keys_padded, sums[r] * V::set(a.scale));
}

// Rows vectors of values, weighted and added up.
template <class V, int Rows>
inline void short_values(const ShortAttentionArgs& a, const float* weights, const float* values,
                         float inverse, float* out) {
    typename V::F sums[Rows];
    for (int r = 0; r < Rows; ++r) sums[r] = V::set(0.0f);
    for (int64_t k = 0; k < a.keys; ++k) {
        const auto weight = V::set(weights[k]);
        for (int r = 0; r < Rows; ++r)
            sums[r] = V::fma(weight, V::load(values + k * a.padded + r * V::kWidth), sums[r]);
    }
    for (int r = 0; r < Rows; ++r) V::store(out + r * V::kWidth, sums[r] * V::set(inverse));
}

// Converts a row of scores to weights and returns their sum; columns after the last key get the weight zero.
template <class V>
inline float short_weights(const ShortAttentionArgs& a, float* scores) {
    for (int64_t k = a.keys; k < a.keys_padded; ++k) scores[k] = kNoScore;
    auto high = V::set(kNoScore);
    for (int64_t k = 0; k < a.keys_padded; k += V::kWidth) high = V::max(V::load(scores + k), high);
    const auto shift = V::set(V::max_lane(high));
    auto total = V::set(0.0f);
    for (int64_t k = 0; k < a.keys_padded; k += V::kWidth) {
        const auto weight = exp2<V>(V::load(scores + k) - shift);
        V::store(scores + k, weight);
        total = total + weight;
    }
    return V::sum(total);
}

template <class V>
void short_attention(const ShortAttentionArgs& a) {
    for (int64_t q = 0; q < a.queries; q += kShortRows) {
        const bool whole = q + kShortRows <= a.queries;
        for (int64_t k = 0; k < a.keys_padded; k += V::kWidth) {
            if (whole) {
                short_scores<V, kShortRows>(a, a.q + q * a.padded, a.k + k, a.weights + k);
            } else {
                for (int64_t r = 0; q + r < a.queries; ++r)
                    short_scores<V, 1>(a, a.q + (q + r) * a.padded, a.k + k,
                                       a.weights + r * a.keys_padded + k);
            }
        }
        for (int64_t r = 0; r < kShortRows && q + r < a.queries; ++r) {
            float* weights = a.weights + r * a.keys_padded;
            float* out = a.out + (q + r) * a.padded;
            const float inverse = 1.0f / short_weights<V>(a, weights);
            int64_t d = 0;
            for (; d + kShortRows * V::kWidth <= a.padded; d += kShortRows * V::kWidth)
                short_values<V, kShortRows>(a, weights, a.v + d, inverse, out + d);
            for (; d < a.padded; d += V::kWidth) short_values<V, 1>(a, weights, a.v + d, inverse, out + d);
        }
    }
}

}  // namespace
}  // namespace qora
