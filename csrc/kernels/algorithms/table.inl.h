// A whole kernel table from a Vec wrapper.
#pragma once

#include "kernels/algorithms/attention_operands.inl.h"
#include "kernels/algorithms/q4_tile.inl.h"
#include "kernels/algorithms/recurrent.inl.h"
#include "kernels/algorithms/requantise.inl.h"
#include "kernels/algorithms/rotary.inl.h"
#include "kernels/algorithms/rows.inl.h"
#include "kernels/algorithms/score_bias.inl.h"
#include "kernels/algorithms/short_attention.inl.h"
#include "kernels/algorithms/streaming_attention.inl.h"
#include "kernels/algorithms/tile.inl.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

// In place of a number of vectors: the tile of the q4 family.
constexpr int kGrouped = 0;

// The TileFn of a family: one instance for each number of rows, so that a remainder costs what it computes.
template <class V, class Dot, int MaxRows, int Vectors = V::kTileVectors>
void tile(const TileArgs& args) {
    static_assert(MaxRows <= kMaxTileRows);
    if constexpr (MaxRows > 1) {
        if (args.rows < MaxRows) return tile<V, Dot, MaxRows - 1, Vectors>(args);
    }
    if constexpr (Vectors == kGrouped || !V::kPrefetchInLoop)
        prefetch(args.prefetch.begin, args.prefetch.begin + args.steps * args.prefetch.step_bytes);
    if constexpr (Vectors == kGrouped)
        grouped_tile<V, Dot, MaxRows>(args);
    else
        dot_tile<V, Dot, MaxRows, Vectors>(args);
}

template <class V, class Dot, int MaxRows>
constexpr TileFn half_tile = tile<V, Dot, MaxRows, V::kTileVectors / 2>;

template <class V, class DotQ4 = GroupedI8<V>>
constexpr KernelTable make_table(Family auto_float, Family auto_attention, Family int8_attention,
                                 Family auto_q4 = Family::kI8) {
    return {
        /*nr=*/V::kWidth * V::kTileVectors,
        {
            {tile<V, typename V::DotF32, V::kRowsF32>, V::kRowsF32, encode_rows_f32<V>,
             softmax<V, F32Softmax, V::kRowsF32>, same_column, nullptr, add_float_bias<V>,
             half_tile<V, typename V::DotF32, V::kRowsF32>, pack_floats<V>},
            {tile<V, typename V::DotBf16, V::kRowsBf16>, V::kRowsBf16, encode_rows_bf16<V>,
             softmax<V, Bf16Softmax, V::kRowsBf16>, packed_column<V>, nullptr, add_float_bias<V>,
             half_tile<V, typename V::DotBf16, V::kRowsBf16>, pack_dwords<V, Bf16Pairs<V>>},
            {tile<V, typename V::DotI16, V::kRowsI16>, V::kRowsI16, nullptr,
             softmax<V, WordSoftmax, V::kRowsI16>, packed_column<V>, nullptr, add_step_bias<V>,
             half_tile<V, typename V::DotI16, V::kRowsI16>, pack_dwords<V, I16Pairs<V>>},
            {tile<V, typename V::DotI8, V::kRowsI8>, V::kRowsI8, encode_rows_i8<V>,
             softmax<V, ByteSoftmax, V::kRowsI8>, byte_column<V>, nullptr, nullptr,
             half_tile<V, typename V::DotI8, V::kRowsI8>, pack_dwords<V, I8Quads<V>>},
            {tile<V, DotQ4, DotQ4::kRows, kGrouped>, DotQ4::kRows, encode_rows_i8<V>, nullptr, same_column,
             expand_q4<V, DotQ4>, nullptr, nullptr, nullptr},
        },
        auto_q4,
        /*auto_q8=*/Family::kI8,
        auto_float,
        auto_attention,
        int8_attention,
        /*i8_zero_point=*/128 - V::kI8Offset,
        norm_rows<V>,
        epilogue<V>,
        merge<V>,
        bf16_to_f32<V>,
        scale_row<V>,
        scale_to_i16<V>,
        scale_to_i8<V>,
        norms<V>,
        largest<V>,
        ranges<V>,
        transpose<V>,
        causal_conv<V>,
        gated_recurrence<V>,
        short_attention<V>,
        rotate<V>,
        q4_to_i8<V>,
    };
}

}  // namespace
}  // namespace qora
