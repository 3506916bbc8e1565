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

// How the weights of one row are stored, and which rounded values they stand for. `add` sums what was stored, so
// that numerator and denominator see the same weights.
template <class V>
struct WeightsF32 {
    static constexpr bool kIntegerScores = false;
    static constexpr int kDegree = 6;
    static constexpr float kUnit = 1.0f;
    using Sum = typename V::F;
    static Sum zero() { return V::set(0.0f); }
    static float total(Sum s) { return V::sum(s); }
    static Sum store(void* row, int64_t i, typename V::F p, Sum sum) {
        V::store(static_cast<float*>(row) + i, p);
        return V::add(sum, p);
    }
};

template <class V>
struct WeightsBf16 {
    static constexpr bool kIntegerScores = false;
    static constexpr int kDegree = 3;
    static constexpr float kUnit = 1.0f;
    using Sum = typename V::F;
    static Sum zero() { return V::set(0.0f); }
    static float total(Sum s) { return V::sum(s); }
    static Sum store(void* row, int64_t i, typename V::F p, Sum sum) {
        auto* at = static_cast<uint16_t*>(row) + i;
        V::store_bf16(at, p);
        return V::add(sum, V::load_bf16(at));
    }
};

template <class V>
struct WeightsI16 {
    static constexpr bool kIntegerScores = true;
    static constexpr int kDegree = 4;
    static constexpr float kUnit = 1.0f / kI16WeightOne;
    using Sum = typename V::I;
    static Sum zero() { return V::set_i(0); }
    static float total(Sum s) { return V::sum(V::to_float(s)); }
    static Sum store(void* row, int64_t i, typename V::F p, Sum sum) {
        const auto q = V::to_int(V::mul(p, V::set(static_cast<float>(kI16WeightOne))));
        V::store_i16(static_cast<int16_t*>(row) + i, q);
        return V::add_i(sum, q);
    }
};

template <class V, class Weights>
inline typename V::F load_scores(const void* scores, int64_t at) {
    if constexpr (Weights::kIntegerScores)
        return V::to_float(V::load_i(static_cast<const int32_t*>(scores) + at));
    else
        return V::load(static_cast<const float*>(scores) + at);
}

// The score buffer and the weight buffer hold whole vectors. Scores beyond `keys` are replaced, not trusted.
template <class V, class Weights>
void softmax(const SoftmaxArgs& a) {
    const int whole = a.keys / V::kWidth * V::kWidth, rest = a.keys - whole;
    for (int r = 0; r < a.rows; ++r) {
        const int64_t row = r * a.score_stride;
        const float scale = a.row_scale[r];

        auto high = V::set(-HUGE_VALF);
        for (int i = 0; i < whole; i += V::kWidth)
            high = V::max(load_scores<V, Weights>(a.scores, row + i), high);
        float tail[V::kWidth];
        if (rest > 0) {
            V::store(tail, load_scores<V, Weights>(a.scores, row + whole));
            for (int i = rest; i < V::kWidth; ++i) tail[i] = -HUGE_VALF;
            high = V::max(V::load(tail), high);
        }
        const float block_max = V::max_lane(high) * scale;

        auto* weights = static_cast<uint8_t*>(a.weights) + r * a.weight_stride;
        const auto factor = V::set(scale), minus_max = V::set(-block_max);
        const auto weight = [&](typename V::F s) {
            return V::min(V::set(1.0f), exp2<V, Weights::kDegree>(V::fma(s, factor, minus_max)));
        };
        auto sum = Weights::zero();
        for (int i = 0; i < whole; i += V::kWidth)
            sum = Weights::store(weights, i, weight(load_scores<V, Weights>(a.scores, row + i)), sum);
        int end = whole;
        if (rest > 0) {
            V::store(tail, weight(V::load(tail)));
            for (int i = rest; i < V::kWidth; ++i) tail[i] = 0.0f;
            sum = Weights::store(weights, whole, V::load(tail), sum);
            end += V::kWidth;
        }
        for (; end < a.keys_padded; end += V::kWidth) Weights::store(weights, end, V::set(0.0f), Weights::zero());

        const float before = a.running_max[r];
        const float after = before > block_max ? before : block_max;
        const float keep = V::first(exp2<V, 6>(V::set(before - after)));
        const float gain = V::first(exp2<V, 6>(V::set(block_max - after))) * Weights::kUnit;
        a.running_sum[r] = a.running_sum[r] * keep + Weights::total(sum) * gain;
        a.running_max[r] = after;
        a.keep[r] = keep;
        a.gain[r] = gain;
    }
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
