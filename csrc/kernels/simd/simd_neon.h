// The Vec wrapper of AArch64 NEON: four lanes, thirty-two registers. DotProd and BF16 instructions are used
// where the unit is compiled for them; without, the same results come from widened operands.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#if !defined(_MSC_VER)
#if defined(QORA_UNIT_DOTPROD) && !defined(__ARM_FEATURE_DOTPROD)
#error "the unit is compiled without the dot products that QORA_UNIT_DOTPROD asks for"
#endif
#if defined(QORA_UNIT_BF16) && !defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#error "the unit is compiled without the instructions that QORA_UNIT_BF16 asks for"
#endif
#endif

namespace qora {
namespace {

struct NeonSimd {
    static constexpr int kWidth = 4;
    // Vectors with operators, each one instruction: a product and a sum are rounded separately, fma() once.
    // They convert to and from the types of the intrinsics. Never apply an operator to two values of those
    // types: compilers choose the width of the lanes themselves.
    struct F {
        float32x4_t v;
        F() = default;
        F(float32x4_t x) : v(x) {}
        operator float32x4_t() const { return v; }
        friend F operator+(F a, F b) { return vaddq_f32(a.v, b.v); }
        friend F operator-(F a, F b) { return vsubq_f32(a.v, b.v); }
        friend F operator*(F a, F b) { return vmulq_f32(a.v, b.v); }
    };
    struct I {
        int32x4_t v;
        I() = default;
        I(int32x4_t x) : v(x) {}
        operator int32x4_t() const { return v; }
        friend I operator+(I a, I b) { return vaddq_s32(a.v, b.v); }
        friend I operator-(I a, I b) { return vsubq_s32(a.v, b.v); }
        friend I operator*(I a, I b) { return vmulq_s32(a.v, b.v); }
    };

    static F set(float x) { return vdupq_n_f32(x); }
    static F load(const float* p) { return vld1q_f32(p); }
    static void store(float* p, F x) { vst1q_f32(p, x); }
    static F load_n(const float* p, int n, float fill) {
        float lanes[4] = {fill, fill, fill, fill};
        memcpy(lanes, p, static_cast<size_t>(n) * 4);
        return load(lanes);
    }
    static void store_n(float* p, F x, int n) {
        float lanes[4];
        store(lanes, x);
        memcpy(p, lanes, static_cast<size_t>(n) * 4);
    }
    static void load_pairs(const float* p, F& even, F& odd) {
        const float32x4x2_t pairs = vld2q_f32(p);
        even = pairs.val[0], odd = pairs.val[1];
    }
    static void store_pairs(float* p, F even, F odd) {
        float32x4x2_t pairs;
        pairs.val[0] = even, pairs.val[1] = odd;
        vst2q_f32(p, pairs);
    }
    static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
    // A comparison with NaN is false, which selects the second operand; fmax would return the NaN.
    static F max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
    static F min(F a, F b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
    static F abs(F a) { return vabsq_f32(a); }
    static F sqrt(F a) { return vsqrtq_f32(a); }
    // The estimate has eight correct bits; each Newton step doubles their number.
    static F reciprocal(F a) {
        F r = vrecpeq_f32(a);
        r = r * F(vrecpsq_f32(a, r));
        return r * F(vrecpsq_f32(a, r));
    }
    static F round(F a) { return vrndnq_f32(a); }
    // x * 2^n for an integral n from -126 to 127.
    static F scale_by_power(F x, F n) {
        const I biased = vaddq_s32(vcvtq_s32_f32(n), set_i(127));
        return x * F(vreinterpretq_f32_s32(vshlq_n_s32(biased, 23)));
    }
    static float sum(F a) { return vaddvq_f32(a); }
    static float max_lane(F a) { return vmaxvq_f32(a); }
    static float min_lane(F a) { return vminvq_f32(a); }
    static float first(F a) { return vgetq_lane_f32(a, 0); }

    static I set_i(int32_t x) { return vdupq_n_s32(x); }
    static I load_i(const int32_t* p) { return vld1q_s32(p); }
    static void store_i(int32_t* p, I x) { vst1q_s32(p, x); }
    static I max_i(I a, I b) { return vmaxq_s32(a, b); }
    static I min_i(I a, I b) { return vminq_s32(a, b); }
    static int32_t max_lane_i(I a) { return vmaxvq_s32(a); }
    static I shift_right_i(I a, int n) { return vshlq_s32(a, set_i(-n)); }
    static F to_float(I a) { return vcvtq_f32_s32(a); }
    // The instruction saturates and converts a NaN to zero, but the result must be INT32_MIN in both cases.
    static I to_int(F a) {
        const uint32x4_t fits = vcaltq_f32(a, set(2147483648.0f));
        return vbslq_s32(fits, vcvtnq_s32_f32(a), set_i(INT32_MIN));
    }

    static F widen_bf16(uint16x4_t half) { return vreinterpretq_f32_u32(vshll_n_u16(half, 16)); }
    static F load_bf16(const uint16_t* p) { return widen_bf16(vld1_u16(p)); }
    static F load_bf16_n(const uint16_t* p, int n) {
        uint16_t lanes[4] = {};
        memcpy(lanes, p, static_cast<size_t>(n) * 2);
        return load_bf16(lanes);
    }
    // Rounds to nearest even; a NaN stays one.
#if defined(QORA_UNIT_BF16)
    static uint16x4_t to_bf16(F x) {
        uint16x4_t half;
        __asm__("bfcvtn %0.4h, %1.4s" : "=w"(half) : "w"(x.v));
        return half;
    }
#else
    static uint16x4_t to_bf16(F x) {
        const uint32x4_t bits = vreinterpretq_u32_f32(x);
        const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x00400000));
        return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), rounded, quiet), 16);
    }
#endif
    static void store_bf16(uint16_t* p, F x) { vst1_u16(p, to_bf16(x)); }
    static void store_bf16_n(uint16_t* p, F x, int n) {
        uint16_t lanes[4];
        store_bf16(lanes, x);
        memcpy(p, lanes, static_cast<size_t>(n) * 2);
    }
    static void store_i16(int16_t* p, I x) { vst1_s16(p, vmovn_s32(x)); }
    static void store_bytes(uint8_t* p, I x) {
        const int16x4_t words = vqmovn_s32(x);
        const int8x8_t bytes = vqmovn_s16(vcombine_s16(words, words));
        const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
        memcpy(p, &four, 4);
    }
    static void store_signed_bytes(int8_t* p, I x) { store_bytes(reinterpret_cast<uint8_t*>(p), x); }
    static void store_bytes(uint8_t* p, const I (&x)[4]) {
        const int16x8_t low = vcombine_s16(vqmovn_s32(x[0]), vqmovn_s32(x[1])),
                        high = vcombine_s16(vqmovn_s32(x[2]), vqmovn_s32(x[3]));
        vst1q_u8(p, vreinterpretq_u8_s8(vcombine_s8(vqmovn_s16(low), vqmovn_s16(high))));
    }

    // Four rows of four dwords become columns.
    static void transpose(I (&x)[4]) {
        const auto wide = [](I a) { return vreinterpretq_s64_s32(a); };
        const auto a = wide(vtrn1q_s32(x[0], x[1])), b = wide(vtrn2q_s32(x[0], x[1])),
                   c = wide(vtrn1q_s32(x[2], x[3])), d = wide(vtrn2q_s32(x[2], x[3]));
        x[0] = vreinterpretq_s32_s64(vtrn1q_s64(a, c));
        x[1] = vreinterpretq_s32_s64(vtrn1q_s64(b, d));
        x[2] = vreinterpretq_s32_s64(vtrn2q_s64(a, c));
        x[3] = vreinterpretq_s32_s64(vtrn2q_s64(b, d));
    }
    // The low words of each dword of two vectors; and a bf16 value as such a low word.
    static I pair_words(I low, I high) { return vsliq_n_s32(low, high, 16); }
    // The low bytes of each dword of four vectors.
    static I quad_bytes(I a, I b, I c, I d) { return pair_words(vsliq_n_s32(a, b, 8), vsliq_n_s32(c, d, 8)); }
    static I bf16_words(F x) { return vreinterpretq_s32_u32(vmovl_u16(to_bf16(x))); }

    // Words.
    using W = int16x8_t;
    static W set_w(int16_t x) { return vdupq_n_s16(x); }
    static W pack_w(I a, I b) { return vqmovn_high_s32(vqmovn_s32(a), b); }
    static int packed_column(int i) { return i; }
    static W add_w(W a, W b) { return vaddq_s16(a, b); }
    static W sub_w(W a, W b) { return vqsubq_s16(a, b); }
    static W mul_w(W a, W b) { return vqrdmulhq_s16(a, b); }
    template <int N>
    static W shift_left_w(W a) {
        return vshlq_n_s16(a, N);
    }
    template <int N>
    static W shift_right_w(W a) {
        return vshrq_n_s16(a, N);
    }
    template <int P>
    static W power_w(W n) {
        return vshlq_s16(set_w(1 << P), vnegq_s16(n));
    }
    static W first_w(W a, int n) {
        const int16_t index[8] = {0, 1, 2, 3, 4, 5, 6, 7};
        const uint16x8_t keep = vcgtq_s16(set_w(static_cast<int16_t>(n)), vld1q_s16(index));
        return vandq_s16(a, vreinterpretq_s16_u16(keep));
    }
    static void store_w(int16_t* p, W a) { vst1q_s16(p, a); }
    static I sum_pairs(I sum, W a) { return vpadalq_s16(sum, a); }
    static F sum_bf16(F sum, W a) {
        const uint16x8_t bits = vreinterpretq_u16_s16(a);
        return sum + widen_bf16(vget_low_u16(bits)) + widen_bf16(vget_high_u16(bits));
    }

    // Bytes of two vectors of words.
    using B = uint8x16_t;
    static constexpr int kWordsOfB = 2;
    static B pack_b(const W (&w)[2]) { return vqmovun_high_s16(vqmovun_s16(w[0]), w[1]); }
    static int byte_column(int i) { return i; }
    static B first_b(B a, int n) {
        const uint8_t index[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        return vandq_u8(a, vcgtq_u8(vdupq_n_u8(static_cast<uint8_t>(n)), vld1q_u8(index)));
    }
    static void store_b(uint8_t* p, B a) { vst1q_u8(p, a); }
    static I sum_bytes(I sum, B a) {
        return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sum), vpaddlq_u8(a)));
    }
    static void look_up_nibbles(const int8_t (&table)[16], const uint8_t* x, int8_t* y) {
        const int8x16_t values = vld1q_s8(table);
        const uint8x16_t bytes = vld1q_u8(x);
        const int8x16_t low = vqtbl1q_s8(values, vandq_u8(bytes, vdupq_n_u8(15))),
                        high = vqtbl1q_s8(values, vshrq_n_u8(bytes, 4));
        vst1q_s8(y, vzip1q_s8(low, high));
        vst1q_s8(y + 16, vzip2q_s8(low, high));
    }

    static I load_dwords(const void* p) { return vld1q_s32(static_cast<const int32_t*>(p)); }
    static I broadcast_dword(const void* p) { return vld1q_dup_s32(static_cast<const int32_t*>(p)); }

    // Accumulators, and operands that need no unpacking.
    struct FloatSums {
        static constexpr bool kFloat = true;
        using Acc = F;
        static Acc zero() { return vdupq_n_f32(0.0f); }
    };
    struct IntSums {
        static constexpr bool kFloat = false;
        using Acc = I;
        static Acc zero() { return vdupq_n_s32(0); }
    };
    struct Dwords {
        using Operand = I;
        static Operand broadcast(const void* p) { return broadcast_dword(p); }
        static Operand load(const void* p) { return load_dwords(p); }
    };
#if defined(__GNUC__)
    // For dot products that use one dword of a register for all lanes, so that no broadcast is needed. The
    // type only selects the registers; no arithmetic uses it.
    struct DwordOfRegister {
        using Operand = I;
        static float broadcast(const void* p) { return *static_cast<const float*>(p); }
        static Operand load(const void* p) { return load_dwords(p); }
    };
#endif

    struct DotF32 : FloatSums {
        using Operand = F;
        static Operand broadcast(const void* p) { return vld1q_dup_f32(static_cast<const float*>(p)); }
        static Operand load(const void* p) { return vld1q_f32(static_cast<const float*>(p)); }
        static Acc dot(Acc acc, Operand a, Operand b) { return vfmaq_f32(acc, a, b); }
    };

#if defined(QORA_UNIT_BF16)
    struct DotBf16 : FloatSums, DwordOfRegister {
        static Acc dot(Acc acc, float a, Operand b) {
            __asm__("bfdot %0.4s, %1.8h, %2.2h[0]" : "+w"(acc.v) : "w"(b.v), "w"(a));
            return acc;
        }
    };
    static constexpr int kRowsBf16 = 6;
#else
    // bf16 products in float32 arithmetic: a bf16 value is the upper half of a float32.
    struct DotBf16 : FloatSums {
        struct Operand {
            F even, odd;
        };
        static Operand widen(I pairs) {
            return {vreinterpretq_f32_s32(vshlq_n_s32(pairs, 16)),
                    vreinterpretq_f32_s32(vandq_s32(pairs, set_i(-65536)))};
        }
        static Operand broadcast(const void* p) { return widen(broadcast_dword(p)); }
        static Operand load(const void* p) { return widen(load_dwords(p)); }
        static Acc dot(Acc acc, Operand a, Operand b) { return fma(a.odd, b.odd, fma(a.even, b.even, acc)); }
    };
    static constexpr int kRowsBf16 = 5;
#endif

    // There is no dot product of int16, so the two values of a dword are separated when they are loaded.
    struct DotI16 : IntSums {
        struct Operand {
            int16x4_t even, odd;
        };
        static Operand broadcast(const void* p) {
            const auto* pair = static_cast<const int16_t*>(p);
            return {vld1_dup_s16(pair), vld1_dup_s16(pair + 1)};
        }
        static Operand load(const void* p) {
            const I pairs = load_dwords(p);
            return {vmovn_s32(pairs), vshrn_n_s32(pairs, 16)};
        }
        static Acc dot(Acc acc, Operand a, Operand b) {
            return vmlal_s16(vmlal_s16(acc, a.even, b.even), a.odd, b.odd);
        }
    };

    // Byte instructions take both sides signed (a mixed product came with I8MM only).
    static constexpr int kI8Offset = 128;
#if defined(QORA_UNIT_DOTPROD) && defined(__GNUC__)
    struct DotI8 : IntSums, DwordOfRegister {
        static Acc dot(Acc acc, float a, Operand b) {
            __asm__("sdot %0.4s, %1.16b, %2.4b[0]" : "+w"(acc.v) : "w"(b.v), "w"(a));
            return acc;
        }
    };
#elif defined(QORA_UNIT_DOTPROD)
    struct DotI8 : IntSums, Dwords {
        static Acc dot(Acc acc, Operand a, Operand b) {
            return vdotq_s32(acc, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
        }
    };
#else
    // Two products fit an int16, since weights stop at -127: 2 * 128 * 127 < 2^15.
    struct DotI8 : IntSums, Dwords {
        static Acc dot(Acc acc, Operand a, Operand b) {
            const int8x16_t x = vreinterpretq_s8_s32(a), y = vreinterpretq_s8_s32(b);
            const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(y)), high = vmull_high_s8(x, y);
            return vpadalq_s16(acc, vpaddq_s16(low, high));
        }
    };
    // With four bits, the products of a group fit an int16 for each byte of a dword: 8 * 128 * 8 = 8192.
    struct DotQ4 : Dwords {
        static constexpr int kRows = 3;
        struct Acc {
            int16x8_t low, high;
        };
        static Acc product(Operand a, Operand b) {
            const int8x16_t x = vreinterpretq_s8_s32(a), y = vreinterpretq_s8_s32(b);
            return {vmull_s8(vget_low_s8(x), vget_low_s8(y)), vmull_high_s8(x, y)};
        }
        static Acc dot(Acc acc, Operand a, Operand b) {
            const int8x16_t x = vreinterpretq_s8_s32(a), y = vreinterpretq_s8_s32(b);
            return {vmlal_s8(acc.low, vget_low_s8(x), vget_low_s8(y)), vmlal_high_s8(acc.high, x, y)};
        }
        static int32_t multiplier(int32_t m) { return m; }
        static I multiplied(Acc sums, const uint8_t* multipliers) {
            return I(vpaddlq_s16(vpaddq_s16(sums.low, sums.high))) * load_dwords(multipliers);
        }
    };
#endif

    // Thirty-two registers: 6 x 4 accumulators, four vectors of B, one of A; fewer rows where operands are
    // separated.
    static constexpr int kTileVectors = 4;
    // Whether a tile's loop has room for a prefetch instruction; otherwise the tile prefetches before its
    // loop.
    static constexpr bool kPrefetchInLoop = false;
    static constexpr int kRowsF32 = 6, kRowsI16 = 5, kRowsI8 = 6;
};

}  // namespace
}  // namespace qora
