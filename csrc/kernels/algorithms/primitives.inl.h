// Test entry points of a vector wrapper.
#pragma once

#include <cstdint>

#include "kernels/primitives.h"

namespace qora {
namespace {

template <class V>
struct Primitives {
    using F = typename V::F;
    using I = typename V::I;
    using W = typename V::W;
    static constexpr int kWidth = V::kWidth;

    static const float* floats(const void* p) { return static_cast<const float*>(p); }
    static F f(const void* p) { return V::load(floats(p)); }
    static I i(const void* p) { return V::load_i(static_cast<const int32_t*>(p)); }
    static I i(const void* p, int vector) {
        return V::load_i(static_cast<const int32_t*>(p) + vector * kWidth);
    }
    // Words are given as int32, from which a wrapper packs them, in the order of packed_column.
    static W w(const void* p) {
        int32_t lanes[2 * kWidth];
        for (int k = 0; k < 2 * kWidth; ++k) lanes[V::packed_column(k)] = static_cast<const int32_t*>(p)[k];
        return V::pack_w(V::load_i(lanes), V::load_i(lanes + kWidth));
    }
    // Likewise bytes, kBytes of them.
    static constexpr int kBytes = 2 * V::kWordsOfB * kWidth;
    static auto b(const void* p) {
        int32_t lanes[kBytes];
        for (int k = 0; k < kBytes; ++k) lanes[V::byte_column(k)] = static_cast<const int32_t*>(p)[k];
        W words[V::kWordsOfB];
        for (int v = 0; v < V::kWordsOfB; ++v)
            words[v] = V::pack_w(V::load_i(lanes + 2 * v * kWidth), V::load_i(lanes + (2 * v + 1) * kWidth));
        return V::pack_b(words);
    }
    static void put(const PrimitiveArgs& p, F x) { V::store(static_cast<float*>(p.out), x); }
    static void put_i(const PrimitiveArgs& p, I x) { V::store_i(static_cast<int32_t*>(p.out), x); }
    static void put_w(const PrimitiveArgs& p, W x) { V::store_w(static_cast<int16_t*>(p.out), x); }
    static void put_b(const PrimitiveArgs& p, typename V::B x) {
        V::store_b(static_cast<uint8_t*>(p.out), x);
    }
    static void put_1(const PrimitiveArgs& p, float x) { *static_cast<float*>(p.out) = x; }

    // One step of a tile: a dword of A, a vector of dwords of B (aligned), and the accumulator.
    template <class Dot>
    static void dot(const PrimitiveArgs& p) {
        const auto scalar = Dot::broadcast(p.a);
        const auto vector = Dot::load(p.b);
        if constexpr (Dot::kFloat)
            put(p, Dot::dot(f(p.c), scalar, vector));
        else
            put_i(p, Dot::dot(i(p.c), scalar, vector));
    }

    using Args = const PrimitiveArgs&;
    static constexpr Primitive kAll[] = {
        {"add", [](Args p) { put(p, f(p.a) + f(p.b)); }},
        {"sub", [](Args p) { put(p, f(p.a) - f(p.b)); }},
        {"mul", [](Args p) { put(p, f(p.a) * f(p.b)); }},
        {"fma", [](Args p) { put(p, V::fma(f(p.a), f(p.b), f(p.c))); }},
        {"max", [](Args p) { put(p, V::max(f(p.a), f(p.b))); }},
        {"min", [](Args p) { put(p, V::min(f(p.a), f(p.b))); }},
        {"abs", [](Args p) { put(p, V::abs(f(p.a))); }},
        {"sqrt", [](Args p) { put(p, V::sqrt(f(p.a))); }},
        {"reciprocal", [](Args p) { put(p, V::reciprocal(f(p.a))); }},
        {"round", [](Args p) { put(p, V::round(f(p.a))); }},
        {"scale_by_power", [](Args p) { put(p, V::scale_by_power(f(p.a), f(p.b))); }},
        {"set", [](Args p) { put(p, V::set(*floats(p.a))); }},
        {"sum", [](Args p) { put_1(p, V::sum(f(p.a))); }},
        {"max_lane", [](Args p) { put_1(p, V::max_lane(f(p.a))); }},
        {"min_lane", [](Args p) { put_1(p, V::min_lane(f(p.a))); }},
        {"first", [](Args p) { put_1(p, V::first(f(p.a))); }},
        {"load_n", [](Args p) { put(p, V::load_n(floats(p.a), p.n, *floats(p.b))); }},
        {"store_n", [](Args p) { V::store_n(static_cast<float*>(p.out), f(p.a), p.n); }},
        {"swap_pairs",
         [](Args p) {
             F even, odd;
             V::load_pairs(floats(p.a), even, odd);
             V::store_pairs(static_cast<float*>(p.out), odd, even);
         }},
        {"set_i", [](Args p) { put_i(p, V::set_i(*static_cast<const int32_t*>(p.a))); }},
        {"add_i", [](Args p) { put_i(p, i(p.a) + i(p.b)); }},
        {"sub_i", [](Args p) { put_i(p, i(p.a) - i(p.b)); }},
        {"mul_i", [](Args p) { put_i(p, i(p.a) * i(p.b)); }},
        {"max_i", [](Args p) { put_i(p, V::max_i(i(p.a), i(p.b))); }},
        {"min_i", [](Args p) { put_i(p, V::min_i(i(p.a), i(p.b))); }},
        {"max_lane_i", [](Args p) { *static_cast<int32_t*>(p.out) = V::max_lane_i(i(p.a)); }},
        {"shift_right_i", [](Args p) { put_i(p, V::shift_right_i(i(p.a), p.n)); }},
        {"to_float", [](Args p) { put(p, V::to_float(i(p.a))); }},
        {"to_int", [](Args p) { put_i(p, V::to_int(f(p.a))); }},
        {"load_bf16", [](Args p) { put(p, V::load_bf16(static_cast<const uint16_t*>(p.a))); }},
        {"load_bf16_n", [](Args p) { put(p, V::load_bf16_n(static_cast<const uint16_t*>(p.a), p.n)); }},
        {"store_bf16", [](Args p) { V::store_bf16(static_cast<uint16_t*>(p.out), f(p.a)); }},
        {"store_bf16_n", [](Args p) { V::store_bf16_n(static_cast<uint16_t*>(p.out), f(p.a), p.n); }},
        {"bf16_words", [](Args p) { put_i(p, V::bf16_words(f(p.a))); }},
        {"store_i16", [](Args p) { V::store_i16(static_cast<int16_t*>(p.out), i(p.a)); }},
        {"store_bytes", [](Args p) { V::store_bytes(static_cast<uint8_t*>(p.out), i(p.a)); }},
        {"store_signed_bytes", [](Args p) { V::store_signed_bytes(static_cast<int8_t*>(p.out), i(p.a)); }},
        {"store_bytes_4",
         [](Args p) {
             const I x[4] = {i(p.a), i(p.a, 1), i(p.a, 2), i(p.a, 3)};
             V::store_bytes(static_cast<uint8_t*>(p.out), x);
         }},
        {"transpose",
         [](Args p) {
             I block[kWidth];
             for (int r = 0; r < kWidth; ++r) block[r] = i(p.a, r);
             V::transpose(block);
             for (int r = 0; r < kWidth; ++r) V::store_i(static_cast<int32_t*>(p.out) + r * kWidth, block[r]);
         }},
        {"pair_words", [](Args p) { put_i(p, V::pair_words(i(p.a), i(p.b))); }},
        {"quad_bytes", [](Args p) { put_i(p, V::quad_bytes(i(p.a), i(p.a, 1), i(p.a, 2), i(p.a, 3))); }},
        {"set_w", [](Args p) { put_w(p, V::set_w(*static_cast<const int16_t*>(p.a))); }},
        {"pack_w", [](Args p) { put_w(p, w(p.a)); }},
        {"add_w", [](Args p) { put_w(p, V::add_w(w(p.a), w(p.b))); }},
        {"sub_w", [](Args p) { put_w(p, V::sub_w(w(p.a), w(p.b))); }},
        {"mul_w", [](Args p) { put_w(p, V::mul_w(w(p.a), w(p.b))); }},
        {"shift_left_5_w", [](Args p) { put_w(p, V::template shift_left_w<5>(w(p.a))); }},
        {"shift_right_3_w", [](Args p) { put_w(p, V::template shift_right_w<3>(w(p.a))); }},
        {"power_14_w", [](Args p) { put_w(p, V::template power_w<14>(w(p.a))); }},
        {"power_9_w", [](Args p) { put_w(p, V::template power_w<9>(w(p.a))); }},
        {"first_w", [](Args p) { put_w(p, V::first_w(w(p.a), p.n)); }},
        {"sum_pairs", [](Args p) { put_i(p, V::sum_pairs(i(p.b), w(p.a))); }},
        {"sum_bf16", [](Args p) { put(p, V::sum_bf16(f(p.b), w(p.a))); }},
        {"pack_b", [](Args p) { put_b(p, b(p.a)); }},
        {"first_b", [](Args p) { put_b(p, V::first_b(b(p.a), p.n)); }},
        {"sum_bytes", [](Args p) { put_i(p, V::sum_bytes(i(p.b), b(p.a))); }},
        {"look_up_nibbles",
         [](Args p) {
             V::look_up_nibbles(*static_cast<const int8_t (*)[16]>(p.a), static_cast<const uint8_t*>(p.b),
                                static_cast<int8_t*>(p.out));
         }},
        {"dot_f32", dot<typename V::DotF32>},
        {"dot_bf16", dot<typename V::DotBf16>},
        {"dot_i16", dot<typename V::DotI16>},
        {"dot_i8", dot<typename V::DotI8>},
    };
    static constexpr PrimitiveTable kTable = {kWidth, V::kWordsOfB, kAll,
                                              static_cast<int>(sizeof kAll / sizeof kAll[0])};
};

}  // namespace
}  // namespace qora
