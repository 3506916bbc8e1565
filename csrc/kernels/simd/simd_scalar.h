// The Vec wrapper without vectors: one lane, plain C++. Every other wrapper offers the same names.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace qora {
namespace {

struct ScalarSimd {
    static constexpr int kWidth = 1;
    using F = float;
    using I = int32_t;

    static F set(float x) { return x; }
    static F load(const float* p) { return *p; }
    static void store(float* p, F x) { *p = x; }
    // The first n lanes, 1 <= n < kWidth; the others are `fill`. (Never called in this wrapper, which has one
    // lane.)
    static F load_n(const float* p, int, float) { return *p; }
    static void store_n(float* p, F x, int) { *p = x; }
    // 2 kWidth values, separated into even and odd ones. Lanes may be in any order that store_pairs reverses.
    static void load_pairs(const float* p, F& even, F& odd) { even = p[0], odd = p[1]; }
    static void store_pairs(float* p, F even, F odd) { p[0] = even, p[1] = odd; }
    static F fma(F a, F b, F c) { return a * b + c; }
    // Like the x86 instruction: the second operand when either is NaN.
    static F max(F a, F b) { return a > b ? a : b; }
    static F min(F a, F b) { return a < b ? a : b; }
    static F abs(F a) { return std::fabs(a); }
    static F sqrt(F a) { return sqrtf(a); }
    static F reciprocal(F a) { return 1.0f / a; }
    static F round(F a) { return std::nearbyint(a); }
    // x * 2^n for an integral n from -126 to 127.
    static F scale_by_power(F x, F n) {
        const uint32_t bits = static_cast<uint32_t>(to_int(n) + 127) << 23;
        float power;
        std::memcpy(&power, &bits, 4);
        return x * power;
    }
    static float sum(F a) { return a; }
    static float max_lane(F a) { return a; }
    static float min_lane(F a) { return a; }
    static float first(F a) { return a; }

    static I set_i(int32_t x) { return x; }
    static I load_i(const int32_t* p) { return *p; }
    static void store_i(int32_t* p, I x) { *p = x; }
    static I max_i(I a, I b) { return a > b ? a : b; }
    static I min_i(I a, I b) { return a < b ? a : b; }
    static int32_t max_lane_i(I a) { return a; }
    static I shift_right_i(I a, int n) { return a >> n; }
    static F to_float(I a) { return static_cast<float>(a); }
    // Rounds to nearest even; values that do not fit an int32 become INT32_MIN, as on x86.
    static I to_int(F a) {
        return a >= -2147483648.0f && a < 2147483648.0f ? static_cast<int32_t>(std::nearbyint(a)) : INT32_MIN;
    }

    static F load_bf16(const uint16_t* p) {
        const uint32_t bits = static_cast<uint32_t>(*p) << 16;
        float x;
        std::memcpy(&x, &bits, 4);
        return x;
    }
    static F load_bf16_n(const uint16_t* p, int) { return load_bf16(p); }
    // Rounds to nearest even; a NaN stays one.
    static void store_bf16(uint16_t* p, F x) {
        uint32_t bits;
        std::memcpy(&bits, &x, 4);
        if ((bits & 0x7fffffffu) > 0x7f800000u)
            bits |= 0x00400000u;
        else
            bits += 0x7fffu + ((bits >> 16) & 1u);
        *p = static_cast<uint16_t>(bits >> 16);
    }
    static void store_bf16_n(uint16_t* p, F x, int) { store_bf16(p, x); }
    // Values must fit an int16; higher bits are dropped.
    static void store_i16(int16_t* p, I x) { *p = static_cast<int16_t>(x); }
    // Saturates to bytes: 0..255, or -128..127 with kI8Offset.
    static void store_bytes(uint8_t* p, I x) { *p = static_cast<uint8_t>(max_i(min_i(x, 255), 0)); }
    static void store_signed_bytes(int8_t* p, I x) {
        *p = static_cast<int8_t>(max_i(min_i(x, INT8_MAX), INT8_MIN));
    }
    static void store_bytes(uint8_t* p, const I (&x)[4]) {
        for (int i = 0; i < 4; ++i) store_bytes(p + i, x[i]);
    }

    // kWidth rows of kWidth dwords become columns.
    static void transpose(I (&)[1]) {}
    // The low words of each dword of two vectors; and a bf16 value as such a low word.
    static I pair_words(I low, I high) {
        return static_cast<I>((static_cast<uint32_t>(low) & 0xffffu) | static_cast<uint32_t>(high) << 16);
    }
    // The low bytes of each dword of four vectors.
    static I quad_bytes(I a, I b, I c, I d) {
        const uint8_t bytes[4] = {static_cast<uint8_t>(a), static_cast<uint8_t>(b), static_cast<uint8_t>(c),
                                  static_cast<uint8_t>(d)};
        I x;
        std::memcpy(&x, bytes, 4);
        return x;
    }
    static I bf16_words(F x) {
        uint16_t half;
        store_bf16(&half, x);
        return half;
    }

    // Words: 2 kWidth lanes of int16.
    struct W {
        int16_t v[2];
    };
    template <class Op>
    static W each_w(Op op) {
        return {{static_cast<int16_t>(op(0)), static_cast<int16_t>(op(1))}};
    }
    static W set_w(int16_t x) { return {{x, x}}; }
    // Two vectors narrowed with saturation. Word i is lane packed_column(i) of the two.
    static W pack_w(I a, I b) {
        return each_w([&](int i) { return min_i(max_i(i == 0 ? a : b, INT16_MIN), INT16_MAX); });
    }
    static int packed_column(int i) { return i; }
    static W add_w(W a, W b) {
        return each_w([&](int i) { return a.v[i] + b.v[i]; });
    }
    // With saturation.
    static W sub_w(W a, W b) {
        return each_w([&](int i) { return min_i(max_i(a.v[i] - b.v[i], INT16_MIN), INT16_MAX); });
    }
    // a b / 2^15, rounded half up.
    static W mul_w(W a, W b) {
        return each_w([&](int i) { return (a.v[i] * b.v[i] + (1 << 14)) >> 15; });
    }
    template <int N>
    static W shift_left_w(W a) {
        return each_w([&](int i) { return static_cast<uint16_t>(a.v[i]) << N; });
    }
    template <int N>
    static W shift_right_w(W a) {
        return each_w([&](int i) { return a.v[i] >> N; });
    }
    // 2^(P - n) for 0 <= n <= P, zero for n up to 32.
    template <int P>
    static W power_w(W n) {
        return each_w([&](int i) { return (1 << P) >> min_i(n.v[i], 31); });
    }
    // The first n words (1 <= n, and fewer than all), followed by zeros.
    static W first_w(W a, int n) {
        return each_w([&](int i) { return i < n ? a.v[i] : 0; });
    }
    static void store_w(int16_t* p, W a) { std::memcpy(p, a.v, sizeof a.v); }
    // Adds the sum of each two words to a lane of int32.
    static I sum_pairs(I sum, W a) { return sum + a.v[0] + a.v[1]; }
    // Adds words that hold bf16 values to lanes; which word goes to which lane is unspecified.
    static F sum_bf16(F sum, W a) {
        uint16_t bits[2];
        std::memcpy(bits, a.v, sizeof bits);
        return sum + load_bf16(bits) + load_bf16(bits + 1);
    }

    // kWordsOfB vectors of words from 0 to 255 as bytes, at most as many as a tile has columns. Byte i is
    // lane byte_column(i) of the vectors of int32 from which the words were packed.
    struct B {
        uint8_t v[2];
    };
    static constexpr int kWordsOfB = 1;
    static B pack_b(const W (&w)[1]) {
        return {{static_cast<uint8_t>(w[0].v[0]), static_cast<uint8_t>(w[0].v[1])}};
    }
    static int byte_column(int i) { return i; }
    // The first n bytes (1 <= n, and fewer than all), followed by zeros.
    static B first_b(B a, int n) { return {{a.v[0], static_cast<uint8_t>(n > 1 ? a.v[1] : 0)}}; }
    static void store_b(uint8_t* p, B a) { std::memcpy(p, a.v, sizeof a.v); }
    // Adds the bytes to lanes; which byte goes to which lane is unspecified.
    static I sum_bytes(I sum, B a) { return sum + a.v[0] + a.v[1]; }
    // y[2 i] and y[2 i + 1] are the table's entries for the low and the high half of byte i of sixteen.
    static void look_up_nibbles(const int8_t (&table)[16], const uint8_t* x, int8_t* y) {
        for (int i = 0; i < 16; ++i) {
            y[2 * i] = table[x[i] & 15];
            y[2 * i + 1] = table[x[i] >> 4];
        }
    }

    // Operand types of the dot-product tiles; dot(acc, a, b) adds the products of each dword.
    struct DotF32 {
        static constexpr bool kFloat = true;
        using Acc = F;
        using Operand = F;
        static Acc zero() { return 0.0f; }
        static Operand broadcast(const void* p) { return load(p); }
        static Operand load(const void* p) {
            float x;
            std::memcpy(&x, p, 4);
            return x;
        }
        static Acc dot(Acc acc, Operand a, Operand b) { return acc + a * b; }
    };
    struct DotBf16 {
        static constexpr bool kFloat = true;
        using Acc = F;
        struct Operand {
            float even, odd;
        };
        static Acc zero() { return 0.0f; }
        static Operand broadcast(const void* p) { return load(p); }
        static Operand load(const void* p) {
            uint16_t pair[2];
            std::memcpy(pair, p, 4);
            return {load_bf16(pair), load_bf16(pair + 1)};
        }
        static Acc dot(Acc acc, Operand a, Operand b) { return acc + a.even * b.even + a.odd * b.odd; }
    };
    // A dword of integers, as in memory.
    template <class T>
    struct Packed {
        static constexpr bool kFloat = false;
        using Acc = I;
        struct Operand {
            T v[4 / sizeof(T)];
        };
        static Acc zero() { return 0; }
        static Operand broadcast(const void* p) { return load(p); }
        static Operand load(const void* p) {
            Operand x;
            std::memcpy(&x, p, 4);
            return x;
        }
    };
    struct DotI16 : Packed<int16_t> {
        static Acc dot(Acc acc, Operand a, Operand b) { return acc + a.v[0] * b.v[0] + a.v[1] * b.v[1]; }
    };
    struct DotI8 : Packed<uint8_t> {
        static Acc dot(Acc acc, Operand a, Operand b) {
            for (int i = 0; i < 4; ++i) acc += a.v[i] * static_cast<int8_t>(b.v[i]);
            return acc;
        }
    };

    // The number that encoding subtracts from the left bytes of DotI8 and from their zero point: 128 if both
    // sides of a dot product are signed, else 0.
    static constexpr int kI8Offset = 0;

    // Tile shapes: the number of vectors in a row, and of rows for each family.
    static constexpr int kTileVectors = 16;
    // Whether a tile's loop has room for a prefetch instruction; otherwise the tile prefetches before its
    // loop.
    static constexpr bool kPrefetchInLoop = false;
    static constexpr int kRowsF32 = 2, kRowsBf16 = 2, kRowsI16 = 2, kRowsI8 = 2;
};

}  // namespace
}  // namespace qora
