// The dot-product tile: it computes every matrix product, every Q·K and every P·V of the engine.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/prefetch.h"
#include "kernels/compiler.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

// Rows x Vectors accumulators stay in registers for the whole reduction: each step loads a row of B and
// broadcasts one dword of A for each row. It is not inlined, because inside a larger function GCC spills the
// accumulators. Every loop over them is unrolled, because otherwise they stay in memory. It is a TileFn, so
// that the function that selects the number of rows can jump to it.
template <class V, class Dot, int Rows, int Vectors = V::kTileVectors>
QORA_NOINLINE void dot_tile(const TileArgs& args) {
    const auto* a = static_cast<const uint8_t*>(args.a);
    const auto* b = static_cast<const uint8_t*>(args.b);
    auto* c = static_cast<uint8_t*>(args.c);
    const ptrdiff_t a_stride = args.a_stride, c_stride = args.c_stride;
    const int64_t steps = args.steps;
    [[maybe_unused]] const uint8_t* upcoming = args.prefetch.begin;
    [[maybe_unused]] const ptrdiff_t upcoming_step = args.prefetch.step_bytes;
    constexpr ptrdiff_t kVectorBytes = 4 * V::kWidth;
    using Acc = typename Dot::Acc;
    const auto* initial = static_cast<const uint8_t*>(args.initial.rows);
    const ptrdiff_t initial_stride = args.initial.stride;
    const auto initial_at = [&](int r, int v) { return initial + r * initial_stride + v * kVectorBytes; };
    Acc acc[Rows][Vectors];
    QORA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        QORA_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            acc[r][v] = Dot::zero();
            if constexpr (!Dot::kFloat)
                if (initial) acc[r][v] = V::load_i(reinterpret_cast<const int32_t*>(initial_at(r, v)));
        }
    }
    // In short reductions, as in attention, the branch predictor cannot predict the end of the loop. Two
    // steps an iteration halve its branches.
    QORA_UNROLL_TWICE
    for (int64_t step = 0; step < steps; ++step) {
        if constexpr (V::kPrefetchInLoop) {
            prefetch_line(upcoming);
            upcoming += upcoming_step;
        }
        typename Dot::Operand vectors[Vectors];
        QORA_UNROLL
        for (int v = 0; v < Vectors; ++v) vectors[v] = Dot::load(b + v * kVectorBytes);
        QORA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            const auto scalar = Dot::broadcast(a + r * a_stride);
            QORA_UNROLL
            for (int v = 0; v < Vectors; ++v) acc[r][v] = Dot::dot(acc[r][v], scalar, vectors[v]);
        }
        a += 4;
        b += Vectors * kVectorBytes;
    }
    // Floats are added at the end: two short sums round less than a long one.
    if constexpr (Dot::kFloat) {
        if (initial) {
            QORA_UNROLL
            for (int r = 0; r < Rows; ++r) {
                QORA_UNROLL
                for (int v = 0; v < Vectors; ++v)
                    acc[r][v] = acc[r][v] + V::load(reinterpret_cast<const float*>(initial_at(r, v)));
            }
        }
    }
    QORA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        QORA_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            uint8_t* at = c + r * c_stride + v * kVectorBytes;
            if constexpr (Dot::kFloat)
                V::store(reinterpret_cast<float*>(at), acc[r][v]);
            else
                V::store_i(reinterpret_cast<int32_t*>(at), acc[r][v]);
        }
    }
}

}  // namespace
}  // namespace qora
