// Kernel tables from a Vec wrapper. A table is built whole, or it starts as a copy of the table that its
// instruction set extends, and overrides the families that it speeds up: functions together with their
// geometry. A copied pointer leads to the code of the other unit, compiled with that unit's flags.
#pragma once

#include "kernels/algorithms/attention_operands.inl.h"
#include "kernels/algorithms/primitives.inl.h"
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

// A value for "number of vectors" that selects the tile of the q4 family.
constexpr int kGrouped = 0;

// The TileFn of a family, with one instance for each number of rows, so that a remainder costs only what it
// computes.
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

template <class V>
constexpr int columns() {
    constexpr int kColumns = V::kWidth * V::kTileVectors;
    static_assert(kColumns % kMinTileColumns == 0 && kMaxTileColumns % kColumns == 0);
    return kColumns;
}

// Sets the functions and the geometry that every family has, for a tile with Rows rows.
template <class V, class Dot, int Rows>
constexpr void set_tiles(FamilyKernels& f) {
    f.mr = Rows;
    f.step_multiple = 1;
    f.tile = tile<V, Dot, Rows>;
    f.half_tile = half_tile<V, Dot, Rows>;
}

template <class V>
constexpr void set_f32(KernelTable& t) {
    FamilyKernels& f = t.family[index_of(Family::kF32)];
    set_tiles<V, typename V::DotF32, V::kRowsF32>(f);
    f.encode_rows = encode_rows_f32<V>;
    f.softmax = softmax<V, F32Softmax, V::kRowsF32>;
    f.add_bias = add_float_bias<V>;
    f.pack_steps = pack_floats<V>;
    f.key_column = same_column;
}

// Also sets the row kernels that store bf16, since they round like the family.
template <class V>
constexpr void set_bf16(KernelTable& t) {
    FamilyKernels& f = t.family[index_of(Family::kBf16)];
    set_tiles<V, typename V::DotBf16, V::kRowsBf16>(f);
    f.encode_rows = encode_rows_bf16<V>;
    f.softmax = softmax<V, Bf16Softmax, V::kRowsBf16>;
    f.add_bias = add_float_bias<V>;
    f.pack_steps = pack_dwords<V, Bf16Pairs<V>>;
    f.key_column = packed_column<V>;
    t.epilogue = epilogue<V>;
    t.scale_row = scale_row<V>;
}

template <class V>
constexpr void set_i16(KernelTable& t) {
    FamilyKernels& f = t.family[index_of(Family::kI16)];
    set_tiles<V, typename V::DotI16, V::kRowsI16>(f);
    f.softmax = softmax<V, WordSoftmax, V::kRowsI16>;
    f.add_bias = add_step_bias<V>;
    f.pack_steps = pack_dwords<V, I16Pairs<V>>;
    f.key_column = packed_column<V>;
}

template <class V>
constexpr void set_i8(KernelTable& t) {
    FamilyKernels& f = t.family[index_of(Family::kI8)];
    set_tiles<V, typename V::DotI8, V::kRowsI8>(f);
    f.encode_rows = encode_rows_i8<V>;
    f.softmax = softmax<V, ByteSoftmax, V::kRowsI8>;
    f.pack_steps = pack_dwords<V, I8Quads<V>>;
    f.key_column = byte_column<V>;
    t.i8_zero_point = 128 - V::kI8Offset;
}

template <class V, class DotQ4 = GroupedI8<V>>
constexpr void set_q4(KernelTable& t) {
    FamilyKernels& f = t.family[index_of(Family::kQ4)];
    f.mr = DotQ4::kRows;
    f.step_multiple = kGroupSteps;
    f.tile = tile<V, DotQ4, DotQ4::kRows, kGrouped>;
    f.encode_rows = encode_rows_i8<V>;
    f.expand = expand_q4<V, DotQ4>;
    f.key_column = same_column;
}

// A table with all functions and the geometry. "auto" is i8 for quantised weights and f32 for everything
// else; a unit may choose other families.
template <class V, class DotQ4 = GroupedI8<V>>
constexpr KernelTable whole_table() {
    KernelTable t{};
    t.primitives = &Primitives<V>::kTable;
    t.nr = columns<V>();
    set_f32<V>(t);
    set_bf16<V>(t);
    set_i16<V>(t);
    set_i8<V>(t);
    set_q4<V, DotQ4>(t);
    t.auto_q4 = t.auto_q8 = Family::kI8;
    t.auto_float = t.auto_attention = t.int8_attention = Family::kF32;
    t.norm_rows = norm_rows<V>;
    t.merge = merge<V>;
    t.bf16_to_f32 = bf16_to_f32<V>;
    t.scale_to_i16 = scale_to_i16<V>;
    t.scale_to_i8 = scale_to_i8<V>;
    t.norms = norms<V>;
    t.largest = largest<V>;
    t.ranges = ranges<V>;
    t.transpose = transpose<V>;
    t.causal_conv = causal_conv<V>;
    t.gated_recurrence = gated_recurrence<V>;
    t.short_attention = short_attention<V>;
    t.rotate = rotate<V>;
    t.q4_to_i8 = q4_to_i8<V>;
    return t;
}

}  // namespace
}  // namespace qora
