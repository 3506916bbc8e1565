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

// Sums of 16 Registers columns: zeros, or rows of int32.
template <class Tiles, int Registers>
QORA_INLINE void begin_sums(const void* initial, ptrdiff_t stride) {
    const auto* p = static_cast<const uint8_t*>(initial);
    if (p == nullptr) {
        Tiles::template zero_sums<0>();
        Tiles::template zero_sums<1>();
        if constexpr (Registers == 4) Tiles::template zero_sums<2>();
        if constexpr (Registers == 4) Tiles::template zero_sums<3>();
    } else {
        Tiles::template load_sums<0>(p, stride);
        Tiles::template load_sums<1>(p + Tiles::kRowBytes, stride);
        if constexpr (Registers == 4) Tiles::template load_sums<2>(p + 2 * Tiles::kRowBytes, stride);
        if constexpr (Registers == 4) Tiles::template load_sums<3>(p + 3 * Tiles::kRowBytes, stride);
    }
}

template <class Tiles, int Registers>
QORA_INLINE void end_sums(void* to, ptrdiff_t stride) {
    auto* p = static_cast<uint8_t*>(to);
    Tiles::template store_sums<0>(p, stride);
    Tiles::template store_sums<1>(p + Tiles::kRowBytes, stride);
    if constexpr (Registers == 4) Tiles::template store_sums<2>(p + 2 * Tiles::kRowBytes, stride);
    if constexpr (Registers == 4) Tiles::template store_sums<3>(p + 3 * Tiles::kRowBytes, stride);
}

template <class Tiles, class Product, int Registers>
QORA_INLINE void add_products(const TileArgs& args) {
    constexpr ptrdiff_t kStride = Registers * Tiles::kRowBytes;  // of the panel
    const auto* a = static_cast<const uint8_t*>(args.a);
    const auto* b = static_cast<const uint8_t*>(args.b);
    const uint8_t* upcoming = args.prefetch.begin;
    const ptrdiff_t upcoming_step = args.prefetch.step_bytes * Tiles::kSteps;
    for (int64_t step = 0; step < args.steps; step += Tiles::kSteps) {
        Tiles::load_left(a, args.a_stride);
        Tiles::template load_right<0>(b, kStride);
        Product::template dot<0>();
        Tiles::template load_right<1>(b + Tiles::kRowBytes, kStride);
        Product::template dot<1>();
        if constexpr (Registers == 4) {
            Tiles::template load_right<2>(b + 2 * Tiles::kRowBytes, kStride);
            Product::template dot<2>();
            Tiles::template load_right<3>(b + 3 * Tiles::kRowBytes, kStride);
            Product::template dot<3>();
        }
        prefetch(upcoming, upcoming + upcoming_step);
        upcoming += upcoming_step;
        a += Tiles::kSteps * 4;
        b += Tiles::kSteps * kStride;
    }
}

// C of as many rows as the tiles are configured for.
template <class V, class Tiles, class Product, int Registers>
void configured_tile(const TileArgs& args) {
    if (!Product::kFloat || args.initial.rows == nullptr) {
        begin_sums<Tiles, Registers>(args.initial.rows, args.initial.stride);
        add_products<Tiles, Product, Registers>(args);
        end_sums<Tiles, Registers>(args.c, args.c_stride);
        return;
    }
    // Floats come last, as in dot_tile: attention relies on a product being the same whether it is added here
    // or merged afterwards.
    constexpr int kColumns = Registers * Tiles::kWidth;
    alignas(64) float products[Tiles::kRows * kColumns];
    begin_sums<Tiles, Registers>(nullptr, 0);
    add_products<Tiles, Product, Registers>(args);
    end_sums<Tiles, Registers>(products, kColumns * 4);
    const auto* initial = static_cast<const uint8_t*>(args.initial.rows);
    auto* c = static_cast<uint8_t*>(args.c);
    for (int r = 0; r < args.rows; ++r, initial += args.initial.stride, c += args.c_stride) {
        QORA_UNROLL
        for (int i = 0; i < kColumns; i += V::kWidth) {
            const auto sum =
                V::load(products + r * kColumns + i) + V::load(reinterpret_cast<const float*>(initial) + i);
            V::store(reinterpret_cast<float*>(c) + i, sum);
        }
    }
}

// A TileFn. Tiles are configured for all rows throughout a range of work, and for fewer just as long as that
// takes: nothing beside an operand is read, and a remainder costs what it computes.
template <class V, class Tiles, class Product, int Registers>
void matrix_tile(const TileArgs& args) {
    if (args.rows == Tiles::kRows) return configured_tile<V, Tiles, Product, Registers>(args);
    Tiles::configure(args.rows);
    configured_tile<V, Tiles, Product, Registers>(args);
    Tiles::configure(Tiles::kRows);
}

// The same for integers, whose few rows may go to another TileFn: sums are the same. To configure tiles
// twice and to load a panel into them takes as long as `Other` takes for some products.
template <class V, class Tiles, class Product, int Registers, TileFn Other, int OtherRows>
void matrix_or_other_tile(const TileArgs& args) {
    static_assert(!Product::kFloat);
    constexpr int64_t kWorthwhile = 10;  // products of whole registers, beyond the first row
    if ((args.rows - 1) * (args.steps / Tiles::kSteps) > kWorthwhile)
        return matrix_tile<V, Tiles, Product, Registers>(args);
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
