// The dot-product tile of weights in groups of four bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/algorithms/tile.inl.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

// The sums of a group in int32, for instruction sets without a faster method. The bytes of a right operand
// are -8..7; `multiplier` converts its int16 multipliers.
template <class V>
struct GroupedI8 : V::DotI8 {
    using Base = typename V::DotI8;
    static constexpr int kRows = V::kRowsI8;
    template <class Scalar>
    static typename Base::Acc product(Scalar a, typename Base::Operand b) {
        return Base::dot(Base::zero(), a, b);
    }
    static int32_t multiplier(int32_t m) { return m; }
    static typename V::I multiplied(typename Base::Acc sums, const uint8_t* multipliers) {
        return sums * V::load_i(reinterpret_cast<const int32_t*>(multipliers));
    }
};

// As dot_tile, but only the sums of one group of steps stay in registers. Each is multiplied and then added
// to C, which is in the L1 cache.
template <class V, class Dot, int Rows>
QORA_NOINLINE void grouped_tile(const TileArgs& args) {
    const auto* a = static_cast<const uint8_t*>(args.a);
    const auto* b = static_cast<const uint8_t*>(args.b);
    auto* c = static_cast<uint8_t*>(args.c);
    const ptrdiff_t a_stride = args.a_stride, c_stride = args.c_stride;
    const int64_t steps = args.steps;
    constexpr int Vectors = V::kTileVectors;
    constexpr ptrdiff_t kVectorBytes = 4 * V::kWidth;
    const auto* initial = static_cast<const uint8_t*>(args.initial.rows);
    for (int r = 0; r < Rows; ++r) {
        uint8_t* row = c + r * c_stride;
        if (initial == nullptr)
            memset(row, 0, Vectors * kVectorBytes);
        else if (initial + r * args.initial.stride != row)
            memcpy(row, initial + r * args.initial.stride, Vectors * kVectorBytes);
    }
    for (int64_t group = 0; group < steps / kGroupSteps; ++group) {
        typename Dot::Acc acc[Rows][Vectors];
        QORA_UNROLL
        for (int step = 0; step < kGroupSteps; ++step) {
            typename Dot::Operand vectors[Vectors];
            QORA_UNROLL
            for (int v = 0; v < Vectors; ++v) vectors[v] = Dot::load(b + v * kVectorBytes);
            QORA_UNROLL
            for (int r = 0; r < Rows; ++r) {
                const auto scalar = Dot::broadcast(a + r * a_stride);
                QORA_UNROLL
                for (int v = 0; v < Vectors; ++v)
                    acc[r][v] = step == 0 ? Dot::product(scalar, vectors[v])
                                          : Dot::dot(acc[r][v], scalar, vectors[v]);
            }
            a += 4;
            b += Vectors * kVectorBytes;
        }
        QORA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            QORA_UNROLL
            for (int v = 0; v < Vectors; ++v) {
                auto* at = reinterpret_cast<int32_t*>(c + r * c_stride + v * kVectorBytes);
                V::store_i(at, Dot::multiplied(acc[r][v], b + v * kVectorBytes) + V::load_i(at));
            }
        }
        b += Vectors * kVectorBytes;
    }
}

// Plain loops, which compilers vectorise.
template <class V, class Dot>
void expand_q4(const uint8_t* panel, int64_t groups, uint8_t* operand) {
    constexpr int64_t kColumns = V::kWidth * V::kTileVectors, kRowBytes = 4 * kColumns;
    for (int64_t group = 0; group < groups; ++group) {
        for (int64_t pair = 0; pair < kGroupSteps / 2; ++pair) {
            for (int64_t i = 0; i < kRowBytes; ++i) {
                operand[i] = static_cast<uint8_t>((panel[i] & 15) - 8);
                operand[kRowBytes + i] = static_cast<uint8_t>((panel[i] >> 4) - 8);
            }
            panel += kRowBytes;
            operand += 2 * kRowBytes;
        }
        for (int64_t i = 0; i < kColumns; ++i) {
            int16_t stored;
            memcpy(&stored, panel + 2 * i, 2);
            const int32_t multiplier = Dot::multiplier(stored);
            memcpy(operand + 4 * i, &multiplier, 4);
        }
        panel += 2 * kColumns;
        operand += kRowBytes;
    }
}

}  // namespace
}  // namespace qora
