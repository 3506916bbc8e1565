// Row kernels of gated linear recurrences: RMS norm, a causal convolution over time, one step of the RG-LRU.
#pragma once

#include <math.h>

#include <cstdint>

#include "kernels/kernel_table.h"
#include "kernels/math.inl.h"
#include "kernels/rows.inl.h"

namespace qora {
namespace {

template <class V>
void rms_norm(const float* x, int64_t n, const float* gamma, float eps, float* y) {
    auto squares = V::set(0.0f);
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        const auto v = load_lanes<V>(x + i, lanes);
        squares = V::fma(v, v, squares);
    });
    const auto inverse = V::set(1.0f / sqrtf(V::sum(squares) / static_cast<float>(n) + eps));
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        const auto v = V::mul(load_lanes<V>(x + i, lanes), inverse);
        store_lanes<V>(y + i, V::mul(v, load_lanes<V>(gamma + i, lanes)), lanes);
    });
}

template <class V>
void causal_conv(const float* const* taps, int count, const float* weight, const float* bias, int64_t n,
                 float* y) {
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        auto sum = load_lanes<V>(bias + i, lanes);
        for (int tap = 0; tap < count; ++tap)
            sum =
                V::fma(load_lanes<V>(weight + tap * n + i, lanes), load_lanes<V>(taps[tap] + i, lanes), sum);
        store_lanes<V>(y + i, sum, lanes);
    });
}

template <class V>
void gated_recurrence(const RecurrenceArgs& a) {
    for_each_vector<V>(a.n, [&](int64_t i, int lanes) {
        const auto input =
            V::mul(sigmoid<V>(load_lanes<V>(a.input_gate + i, lanes)), load_lanes<V>(a.x + i, lanes));
        auto state = input;
        if (!a.fresh) {
            const auto log2_keep =
                V::mul(sigmoid<V>(load_lanes<V>(a.decay_gate + i, lanes)), load_lanes<V>(a.decay + i, lanes));
            // keep² + gain² = 1: the state's variance stays that of the input.
            const auto gain = V::sqrt(one_minus_exp2<V>(V::add(log2_keep, log2_keep)));
            state = V::fma(exp2<V, 6>(log2_keep), load_lanes<V>(a.state + i, lanes), V::mul(gain, input));
        }
        store_lanes<V>(a.state + i, state, lanes);
        store_lanes<V>(a.out + i, V::mul(state, load_lanes<V>(a.branch + i, lanes)), lanes);
    });
}

}  // namespace
}  // namespace qora
