// The tile of instruction sets that multiply matrices: registers of 16 rows of 16 dwords, and instructions
// that multiply 16 steps at once. A panel is a right operand as it lies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/prefetch.h"
#include "kernels/compiler.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

// C of as many rows as registers are configured for, 16 columns to a register.
template <class Tiles, class Product, int Registers>
void matrix_sums(const TileArgs& args) {
    static_assert(Registers == 2 || Registers == 4);
    constexpr bool kFour = Registers == 4;
    constexpr ptrdiff_t kNext = Tiles::kRowBytes, kPanelStride = Registers * kNext;
    const auto* a = static_cast<const uint8_t*>(args.a);
    const auto* b = static_cast<const uint8_t*>(args.b);
    const auto* initial = static_cast<const uint8_t*>(args.initial.rows);
    auto* c = static_cast<uint8_t*>(args.c);
    const ptrdiff_t a_stride = args.a_stride, c_stride = args.c_stride, initial_stride = args.initial.stride;
    const int64_t steps = args.steps;
    const uint8_t* upcoming = args.prefetch.begin;
    const ptrdiff_t upcoming_step = args.prefetch.step_bytes;
    if (initial == nullptr) {
        Tiles::template zero<0>();
        Tiles::template zero<1>();
        if constexpr (kFour) Tiles::template zero<2>();
        if constexpr (kFour) Tiles::template zero<3>();
    } else {
        Tiles::template load<0>(initial, initial_stride);
        Tiles::template load<1>(initial + kNext, initial_stride);
        if constexpr (kFour) Tiles::template load<2>(initial + 2 * kNext, initial_stride);
        if constexpr (kFour) Tiles::template load<3>(initial + 3 * kNext, initial_stride);
    }
    for (int64_t step = 0; step < steps; step += Tiles::kSteps) {
        Tiles::template load<4>(a, a_stride);
        Tiles::template load<5>(b, kPanelStride);
        Product::template dot<0, 4, 5>();
        Tiles::template load<6>(b + kNext, kPanelStride);
        Product::template dot<1, 4, 6>();
        if constexpr (kFour) {
            Tiles::template load<7>(b + 2 * kNext, kPanelStride);
            Product::template dot<2, 4, 7>();
            Tiles::template load<5>(b + 3 * kNext, kPanelStride);
            Product::template dot<3, 4, 5>();
        }
        for (int i = 0; i < Tiles::kSteps; ++i, upcoming += upcoming_step) prefetch_line(upcoming);
        a += Tiles::kSteps * 4;
        b += Tiles::kSteps * kPanelStride;
    }
    Tiles::template store<0>(c, c_stride);
    Tiles::template store<1>(c + kNext, c_stride);
    if constexpr (kFour) Tiles::template store<2>(c + 2 * kNext, c_stride);
    if constexpr (kFour) Tiles::template store<3>(c + 3 * kNext, c_stride);
}

// A TileFn. Registers are configured for all rows throughout a range of work, and for fewer just as long as
// that takes: nothing beside an operand is read, and a remainder costs what it computes.
template <class Tiles, class Product, int Registers>
void matrix_tile(const TileArgs& args) {
    if (args.rows == Tiles::kRows) return matrix_sums<Tiles, Product, Registers>(args);
    Tiles::configure(args.rows);
    matrix_sums<Tiles, Product, Registers>(args);
    Tiles::configure(Tiles::kRows);
}

// The same of integers, of which `Other` takes few rows: sums are the same. Up to two calls of it cost less
// than to configure registers twice and to load a panel into them. Floats would be rounded otherwise, and a
// row must not depend on how many stand beside it.
template <class Tiles, class Product, int Registers, TileFn Other, int OtherRows>
void matrix_or_other_tile(const TileArgs& args) {
    if (args.rows > 2 * OtherRows) return matrix_tile<Tiles, Product, Registers>(args);
    TileArgs some = args;
    for (int r = 0; r < args.rows; r += OtherRows) {
        some.rows = args.rows - r < OtherRows ? args.rows - r : OtherRows;
        some.a = static_cast<const uint8_t*>(args.a) + r * args.a_stride;
        some.c = static_cast<uint8_t*>(args.c) + r * args.c_stride;
        if (args.initial.rows != nullptr)
            some.initial.rows = static_cast<const uint8_t*>(args.initial.rows) + r * args.initial.stride;
        Other(some);
        some.prefetch.step_bytes = 0;
    }
}

}  // namespace
}  // namespace qora
