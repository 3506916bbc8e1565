// Adds bias and mask to attention scores, between their product and the softmax.
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace qora {
namespace {

template <class V>
void add_float_bias(const ScoreBiasArgs& a) {
    for (int r = 0; r < a.rows; ++r) {
        float* scores = static_cast<float*>(a.scores) + r * a.score_stride;
        const float* bias = static_cast<const float*>(a.bias[r]) + a.first;
        const auto scale = V::set(a.row_scale[r]);
        const auto add = [&](auto offset) {
            for (int i = 0; i < a.columns; i += V::kWidth)
                V::store(scores + i, V::fma(V::load(scores + i), scale, offset(i)));
        };
        if (a.mask == nullptr) {
            add([=](int i) { return V::load(bias + i); });
        } else {
            const float* mask = static_cast<const float*>(a.mask[r]) + a.first;
            add([=](int i) { return V::load(bias + i) + V::load(mask + i); });
        }
    }
}

template <class V>
void add_step_bias(const ScoreBiasArgs& a) {
    for (int r = 0; r < a.rows; ++r) {
        int32_t* scores = static_cast<int32_t*>(a.scores) + r * a.score_stride;
        const int32_t* bias = static_cast<const int32_t*>(a.bias[r]) + a.first;
        const int shift = a.row_shift[r];
        const auto add = [&](auto offset) {
            if (shift >= 0) {
                for (int i = 0; i < a.columns; i += V::kWidth)
                    V::store_i(scores + i, V::shift_right_i(V::load_i(scores + i), shift) + offset(i));
                return;
            }
            // The unit of the score is more than a step.
            const int coarser = shift < -31 ? 31 : -shift;
            for (int i = 0; i < a.columns; i += V::kWidth)
                V::store_i(scores + i, V::load_i(scores + i) + V::shift_right_i(offset(i), coarser));
        };
        if (a.mask == nullptr) {
            add([=](int i) { return V::load_i(bias + i); });
        } else {
            const int32_t* mask = static_cast<const int32_t*>(a.mask[r]) + a.first;
            add([=](int i) { return V::load_i(bias + i) + V::load_i(mask + i); });
        }
    }
}

}  // namespace
}  // namespace qora
