// The parts of streaming attention between its two dot products (online softmax; Milakov & Gimelshein 2018,
// blocked as in FlashAttention, Dao et al. 2022).
#pragma once

#include <math.h>

#include <cstdint>

#include "kernels/kernel_table.h"
#include "kernels/math.inl.h"
#include "kernels/rows.inl.h"

namespace qora {
namespace {

// How the weights of one row are stored. `store` adds up what was stored, so that numerator and denominator
// see the same rounded weights. A weight is 2^(score - max + kExponent), which makes the largest kUnit^-1.
template <class V>
struct WeightsF32 {
    using Score = typename V::F;
    using Sum = typename V::F;
    static constexpr int kDegree = 6;
    static constexpr float kExponent = 0.0f, kUnit = 1.0f;
    static Score load(const int32_t* scores) { return V::load(reinterpret_cast<const float*>(scores)); }
    static Score lowest() { return V::set(kNoScore); }
    static Score max(Score a, Score b) { return V::max(a, b); }
    static typename V::F to_float(Score s) { return s; }
    static Sum zero() { return V::set(0.0f); }
    static float total(Sum s) { return V::sum(s); }
    static Sum store(void* row, int64_t i, typename V::F p, Sum sum) {
        V::store(static_cast<float*>(row) + i, p);
        return V::add(sum, p);
    }
    static Sum store_pair(void* row, int64_t i, typename V::F p0, typename V::F p1, Sum sum) {
        return store(row, i + V::kWidth, p1, store(row, i, p0, sum));
    }
};

template <class V>
struct WeightsBf16 : WeightsF32<V> {
    static constexpr int kDegree = 3;
    static typename V::F store(void* row, int64_t i, typename V::F p, typename V::F sum) {
        return V::add(sum, V::store_rounded_bf16(static_cast<uint16_t*>(row) + i, p));
    }
    static typename V::F store_pair(void* row, int64_t i, typename V::F p0, typename V::F p1,
                                    typename V::F sum) {
        return store(row, i + V::kWidth, p1, store(row, i, p0, sum));
    }
};

template <class V>
struct WeightsI16 {
    using Score = typename V::I;
    using Sum = typename V::I;
    static constexpr int kDegree = 3;
    static constexpr float kExponent = kI16WeightBits, kUnit = 1.0f / (1 << kI16WeightBits);
    static Score load(const int32_t* scores) { return V::load_i(scores); }
    static Score lowest() { return V::set_i(INT32_MIN); }
    static Score max(Score a, Score b) { return V::max_i(a, b); }
    static typename V::F to_float(Score s) { return V::to_float(s); }
    static Sum zero() { return V::set_i(0); }
    static float total(Sum s) { return V::sum(V::to_float(s)); }
    static Sum store(void* row, int64_t i, typename V::F p, Sum sum) {
        const auto q = V::to_int(p);
        V::store_i16(static_cast<int16_t*>(row) + i, q);
        return V::add_i(sum, q);
    }
    static Sum store_pair(void* row, int64_t i, typename V::F p0, typename V::F p1, Sum sum) {
        const auto q0 = V::to_int(p0), q1 = V::to_int(p1);
        V::store_i16_pair(static_cast<int16_t*>(row) + i, q0, q1);
        return V::add_i(sum, V::add_i(q0, q1));
    }
};

// The last few scores of a row in units of log2: what stands behind them in the buffer is replaced, not
// trusted.
template <class V, class Weights>
inline typename V::F tail_scores(const int32_t* scores, int count, typename V::F factor) {
    float lanes[V::kWidth];
    V::store(lanes, V::mul(Weights::to_float(Weights::load(scores)), factor));
    for (int i = count; i < V::kWidth; ++i) lanes[i] = kNoScore;
    return V::load(lanes);
}

// Largest score of a row in units of log2.
template <class V, class Weights>
inline float row_max(const int32_t* scores, int keys, float row_scale) {
    const int whole = keys / V::kWidth * V::kWidth;
    const auto factor = V::set(row_scale);
    auto high = Weights::lowest();
    for (int i = 0; i < whole; i += V::kWidth) high = Weights::max(Weights::load(scores + i), high);
    auto highest = V::mul(Weights::to_float(high), factor);
    if (whole < keys)
        highest = V::max(tail_scores<V, Weights>(scores + whole, keys - whole, factor), highest);
    return V::max_lane(highest);
}

// Writes the weights of a row and returns their sum.
template <class V, class Weights>
inline float write_weights(const int32_t* scores, int keys, int keys_padded, float row_scale, float block_max,
                           void* weights) {
    const int whole = keys / V::kWidth * V::kWidth, paired = keys / (2 * V::kWidth) * (2 * V::kWidth);
    // Where scores are huge, score - max could round to more than 0, and a weight above 1 could overflow an
    // int32 sum. A margin of the rounding error prevents it; being common to all weights, it cancels.
    const float margin = (block_max < 0.0f ? -block_max : block_max) * 0x1p-22f;
    const auto factor = V::set(row_scale), shift = V::set(Weights::kExponent - block_max - margin);
    const auto weight = [&](int i) {
        return exp2<V, Weights::kDegree>(V::fma(Weights::to_float(Weights::load(scores + i)), factor, shift));
    };
    auto sum = Weights::zero();
    for (int i = 0; i < paired; i += 2 * V::kWidth)
        sum = Weights::store_pair(weights, i, weight(i), weight(i + V::kWidth), sum);
    if (paired < whole) sum = Weights::store(weights, paired, weight(paired), sum);
    int end = whole;
    if (whole < keys) {
        const auto tail = tail_scores<V, Weights>(scores + whole, keys - whole, factor);
        sum = Weights::store(weights, whole, exp2<V, Weights::kDegree>(V::add(tail, shift)), sum);
        end += V::kWidth;
    }
    for (; end < keys_padded; end += V::kWidth) Weights::store(weights, end, V::set(0.0f), Weights::zero());
    return Weights::total(sum);
}

// The score buffer and the weight buffer hold whole vectors.
template <class V, class Weights>
void softmax(const SoftmaxArgs& a) {
    float block_max[kMaxTileRows] = {}, block_sum[kMaxTileRows] = {};
    // All maxima first: one row's reduction hides behind the next row's loads.
    const auto* scores = static_cast<const int32_t*>(a.scores);
    for (int r = 0; r < a.rows; ++r)
        block_max[r] = row_max<V, Weights>(scores + r * a.score_stride, a.keys, a.row_scale[r]);
    for (int r = 0; r < a.rows; ++r)
        block_sum[r] =
            write_weights<V, Weights>(scores + r * a.score_stride, a.keys, a.keys_padded, a.row_scale[r],
                                      block_max[r], static_cast<uint8_t*>(a.weights) + r * a.weight_stride);

    for_each_vector<V>(a.rows, [&](int64_t r, int lanes) {
        const auto before = load_lanes<V>(a.running_max + r, lanes),
                   block = load_lanes<V>(block_max + r, lanes);
        const auto after = V::max(before, block);
        const auto keep = exp2<V, 6>(V::sub(before, after));
        const auto gain = V::mul(exp2<V, 6>(V::sub(block, after)), V::set(Weights::kUnit));
        const auto kept = V::mul(load_lanes<V>(a.running_sum + r, lanes), keep);
        store_lanes<V>(a.running_sum + r, V::fma(load_lanes<V>(block_sum + r, lanes), gain, kept), lanes);
        store_lanes<V>(a.running_max + r, after, lanes);
        store_lanes<V>(a.keep + r, keep, lanes);
        store_lanes<V>(a.gain + r, gain, lanes);
    });
}

template <class V>
void merge(const MergeArgs& m) {
    for (int r = 0; r < m.rows; ++r) {
        const auto* floats = static_cast<const float*>(m.acc) + r * m.acc_stride;
        const auto* ints = static_cast<const int32_t*>(m.acc) + r * m.acc_stride;
        float* out = m.out + r * m.out_stride;
        const auto keep = V::set(m.keep[r]), gain = V::set(m.gain[r]);
        for (int i = 0; i < m.cols; i += V::kWidth) {
            const auto block = m.integer ? V::to_float(V::load_i(ints + i)) : V::load(floats + i);
            V::store(out + i, V::fma(block, gain, V::mul(V::load(out + i), keep)));
        }
    }
}

template <class V>
void scale_to_i16(const float* x, const float* factor, int64_t n, int16_t* y) {
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        const auto q = V::to_int(V::mul(load_lanes<V>(x + i, lanes), load_lanes<V>(factor + i, lanes)));
        if (lanes == V::kWidth) {
            V::store_i16(y + i, q);
        } else {
            int16_t values[V::kWidth];
            V::store_i16(values, q);
            for (int lane = 0; lane < lanes; ++lane) y[i + lane] = values[lane];
        }
    });
}

// Once NaN, always NaN: the maximum keeps its second operand, and 0 * x is NaN for what is not finite.
template <class V>
void abs_max(const float* x, int64_t n, float* m) {
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        const auto v = load_lanes<V>(x + i, lanes);
        const auto high = V::max(V::abs(v), load_lanes<V>(m + i, lanes));
        store_lanes<V>(m + i, V::fma(v, V::set(0.0f), high), lanes);
    });
}

}  // namespace
}  // namespace qora
