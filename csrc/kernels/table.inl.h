// A whole kernel table from a Vec wrapper.
#pragma once

#include "kernels/attention.inl.h"
#include "kernels/kernel_table.h"
#include "kernels/recurrent.inl.h"
#include "kernels/rows.inl.h"
#include "kernels/tile.inl.h"

namespace qora {
namespace {

template <class V>
constexpr KernelTable make_table(Family auto_float, Family auto_attention) {
    return {
        /*nr=*/V::kWidth * V::kTileVectors,
        {
            {tile<V, typename V::DotF32, V::kRowsF32>, V::kRowsF32, encode_row_f32<V>,
             softmax<V, WeightsF32<V>>},
            {tile<V, typename V::DotBf16, V::kRowsBf16>, V::kRowsBf16, encode_row_bf16<V>,
             softmax<V, WeightsBf16<V>>},
            {tile<V, typename V::DotI16, V::kRowsI16>, V::kRowsI16, encode_row_i16<V>,
             softmax<V, WeightsI16<V>>},
            {tile<V, typename V::DotI8, V::kRowsI8>, V::kRowsI8, encode_row_i8<V>, nullptr},
        },
        /*auto_quantised=*/Family::kI8,
        auto_float,
        auto_attention,
        layer_norm<V>,
        epilogue<V>,
        merge<V>,
        bf16_to_f32<V>,
        scale_row<V>,
        scale_to_i16<V>,
        abs_max<V>,
        rms_norm<V>,
        causal_conv<V>,
        gated_recurrence<V>,
    };
}

}  // namespace
}  // namespace qora
