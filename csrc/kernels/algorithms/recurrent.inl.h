// Row kernels of gated linear recurrences: a causal convolution over time, one step of the RG-LRU.
#pragma once

#include <cstdint>

#include "kernels/algorithms/math.inl.h"
#include "kernels/algorithms/vectors.inl.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

template <class V>
void causal_conv(const float* const* taps, int count, const float* weight, const float* bias, int64_t n,
                 float* y) {
    for_each_wide<V>(n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
        using W = decltype(w);
        auto sum = load_lanes<W>(bias + i, lanes);
        for (int tap = 0; tap < count; ++tap)
            sum =
                W::fma(load_lanes<W>(weight + tap * n + i, lanes), load_lanes<W>(taps[tap] + i, lanes), sum);
        store_lanes<W>(y + i, sum, lanes);
    });
}

template <class V>
void gated_recurrence(const RecurrenceArgs& a) {
    for_each_wide<V>(a.n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
        using W = decltype(w);
        const auto input = sigmoid<W>(load_lanes<W>(a.input_gate + i, lanes)) * load_lanes<W>(a.x + i, lanes);
        auto state = input;
        if (!a.fresh) {
            const auto log2_keep =
                sigmoid<W>(load_lanes<W>(a.decay_gate + i, lanes)) * load_lanes<W>(a.decay + i, lanes);
            // keep² + gain² = 1, so that the state keeps the variance of the input.
            const auto gain = W::sqrt(one_minus_exp2<W>(log2_keep + log2_keep));
            state = W::fma(exp2<W>(log2_keep), load_lanes<W>(a.state + i, lanes), gain * input);
        }
        store_lanes<W>(a.state + i, state, lanes);
        store_lanes<W>(a.out + i, state * load_lanes<W>(a.branch + i, lanes), lanes);
    });
}

}  // namespace
}  // namespace qora
