// The Vec wrapper of AVX-512 (F, BW, VL, DQ): sixteen lanes. VNNI and BF16 dot products are used where the
// unit is compiled with them; without, the same results come from widened operands.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/compiler.h"
#include "kernels/simd/simd_x86.h"

#if defined(QORA_UNIT_VNNI) != defined(__AVX512VNNI__) && !defined(_MSC_VER)
#error "the unit's compiler flags and its QORA_UNIT_VNNI disagree"
#endif
#if defined(QORA_UNIT_BF16) != defined(__AVX512BF16__) && !defined(_MSC_VER)
#error "the unit's compiler flags and its QORA_UNIT_BF16 disagree"
#endif

namespace qora {
namespace {

struct Avx512Simd : X86Bytes {
    static constexpr int kWidth = 16;
    // Vectors with operators, each one instruction: a product and a sum are rounded separately, fma() once.
    // They convert to and from the types of the intrinsics. Never apply an operator to two values of those
    // types: compilers choose the width of the lanes themselves.
    struct F {
        __m512 v;
        F() = default;
        F(__m512 x) : v(x) {}
        operator __m512() const { return v; }
        friend F operator+(F a, F b) { return _mm512_add_ps(a.v, b.v); }
        friend F operator-(F a, F b) { return _mm512_sub_ps(a.v, b.v); }
        friend F operator*(F a, F b) { return _mm512_mul_ps(a.v, b.v); }
    };
    struct I {
        __m512i v;
        I() = default;
        I(__m512i x) : v(x) {}
        operator __m512i() const { return v; }
        friend I operator+(I a, I b) { return _mm512_add_epi32(a.v, b.v); }
        friend I operator-(I a, I b) { return _mm512_sub_epi32(a.v, b.v); }
        friend I operator*(I a, I b) { return _mm512_mullo_epi32(a.v, b.v); }
    };

    static __mmask16 lane_mask(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
    static F set(float x) { return _mm512_set1_ps(x); }
    static F load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
    static F load_n(const float* p, int n, float fill) {
        return _mm512_mask_loadu_ps(set(fill), lane_mask(n), p);
    }
    static void store_n(float* p, F x, int n) { _mm512_mask_storeu_ps(p, lane_mask(n), x); }
    static void load_pairs(const float* p, F& even, F& odd) {
        const F low = load(p), high = load(p + 16);
        even = _mm512_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0));
        odd = _mm512_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1));
    }
    static void store_pairs(float* p, F even, F odd) {
        store(p, _mm512_unpacklo_ps(even, odd));
        store(p + 16, _mm512_unpackhi_ps(even, odd));
    }
    static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static F max(F a, F b) { return _mm512_max_ps(a, b); }
    static F min(F a, F b) { return _mm512_min_ps(a, b); }
    static F abs(F a) { return _mm512_abs_ps(a); }
    static F sqrt(F a) { return _mm512_sqrt_ps(a); }
    // An estimate of fourteen bits and one Newton step: about one ulp, without the long latency of a
    // division.
    static F reciprocal(F a) {
        const F r = _mm512_rcp14_ps(a);
        return r * F(_mm512_fnmadd_ps(a, r, set(2.0f)));
    }
    static F round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static F scale_by_power(F x, F n) { return _mm512_scalef_ps(x, n); }
    static float sum(F a) { return _mm512_reduce_add_ps(a); }
    static float max_lane(F a) { return _mm512_reduce_max_ps(a); }
    static float min_lane(F a) { return _mm512_reduce_min_ps(a); }
    static float first(F a) { return _mm512_cvtss_f32(a); }

    static I set_i(int32_t x) { return _mm512_set1_epi32(x); }
    static I load_i(const int32_t* p) { return _mm512_loadu_si512(p); }
    static void store_i(int32_t* p, I x) { _mm512_storeu_si512(p, x); }
    static I max_i(I a, I b) { return _mm512_max_epi32(a, b); }
    static I min_i(I a, I b) { return _mm512_min_epi32(a, b); }
    static int32_t max_lane_i(I a) { return _mm512_reduce_max_epi32(a); }
    static I shift_right_i(I a, int n) { return _mm512_srav_epi32(a, set_i(n)); }
    static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
    static I to_int(F a) { return _mm512_cvtps_epi32(a); }

    static F widen_bf16(__m256i half) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    static F load_bf16(const uint16_t* p) {
        return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static F load_bf16_n(const uint16_t* p, int n) {
        return widen_bf16(_mm256_maskz_loadu_epi16(lane_mask(n), p));
    }
    // Rounds to nearest even; a NaN stays one. The instruction flushes denormals to zero.
#if defined(QORA_UNIT_BF16)
    static __m256i to_bf16(F x) {
        const __m256bh half = _mm512_cvtneps_pbh(x);
        __m256i bits;
        memcpy(&bits, &half, sizeof bits);
        return bits;
    }
#else
    static __m256i to_bf16(F x) {
        const I bits = _mm512_castps_si512(x);
        const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), set_i(1));
        const I rounded = bits + odd + set_i(0x7fff);
        const I quiet = _mm512_or_si512(bits, set_i(0x00400000));
        const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
        return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
    }
#endif
    static void store_bf16(uint16_t* p, F x) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(x));
    }
    static void store_bf16_n(uint16_t* p, F x, int n) {
        _mm256_mask_storeu_epi16(p, lane_mask(n), to_bf16(x));
    }
    static void store_i16(int16_t* p, I x) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
    }
    static void store_bytes(uint8_t* p, I x) {
        const I positive = max_i(x, _mm512_setzero_si512());
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(positive));
    }
    static void store_signed_bytes(int8_t* p, I x) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(x));
    }
    static void store_bytes(uint8_t* p, const I (&x)[4]) {
        const I low = _mm512_packs_epi32(x[0], x[1]), high = _mm512_packs_epi32(x[2], x[3]);
        const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
    }

    // Sixteen rows of sixteen dwords become columns: within 128 bits first, then whole quarters.
    static void transpose(I (&x)[16]) {
        I t[16];
        QORA_UNROLL
        for (int i = 0; i < 16; i += 2) {
            t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
            t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
        }
        QORA_UNROLL
        for (int i = 0; i < 16; i += 4) {
            x[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
            x[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
            x[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
            x[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
        }
        QORA_UNROLL
        for (int i = 0; i < 4; ++i) {
            const I a = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88),
                    b = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88),
                    c = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd),
                    d = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
            x[i] = _mm512_shuffle_i32x4(a, b, 0x88);
            x[i + 4] = _mm512_shuffle_i32x4(c, d, 0x88);
            x[i + 8] = _mm512_shuffle_i32x4(a, b, 0xdd);
            x[i + 12] = _mm512_shuffle_i32x4(c, d, 0xdd);
        }
    }
    // The low words of each dword of two vectors; and a bf16 value as such a low word.
    static I pair_words(I low, I high) {
        return _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
    }
    // The low bytes of each dword of four vectors.
    static I quad_bytes(I a, I b, I c, I d) {
        const auto byte = [](I x) { return _mm512_and_si512(x, set_i(255)); };
        const I low = _mm512_or_si512(byte(a), _mm512_slli_epi32(byte(b), 8));
        return pair_words(low, _mm512_or_si512(byte(c), _mm512_slli_epi32(d, 8)));
    }
    static I bf16_words(F x) { return _mm512_cvtepu16_epi32(to_bf16(x)); }

    // Words. Packing works on 128 bits at a time: four lanes of one vector, four of the other.
    using W = __m512i;
    static W set_w(int16_t x) { return _mm512_set1_epi16(x); }
    static W pack_w(I a, I b) { return _mm512_packs_epi32(a, b); }
    static int packed_column(int i) { return i / 4 % 2 * kWidth + i / 8 * 4 + i % 4; }
    static W add_w(W a, W b) { return _mm512_add_epi16(a, b); }
    static W sub_w(W a, W b) { return _mm512_subs_epi16(a, b); }
    static W mul_w(W a, W b) { return _mm512_mulhrs_epi16(a, b); }
    template <int N>
    static W shift_left_w(W a) {
        return _mm512_slli_epi16(a, N);
    }
    template <int N>
    static W shift_right_w(W a) {
        return _mm512_srai_epi16(a, N);
    }
    template <int P>
    static W power_w(W n) {
        return _mm512_srlv_epi16(set_w(1 << P), n);
    }
    static W first_w(W a, int n) {
        return _mm512_maskz_mov_epi16(static_cast<__mmask32>((uint64_t{1} << n) - 1), a);
    }
    static void store_w(int16_t* p, W a) { _mm512_storeu_si512(p, a); }
    static I sum_pairs(I sum, W a) { return DotI16::dot(sum, a, set_w(1)); }
#if defined(QORA_UNIT_BF16)
    static F sum_bf16(F sum, W a) { return DotBf16::dot(sum, a, set_w(0x3f80)); }  // each times one
#else
    static F sum_bf16(F sum, W a) {
        const auto pairs = DotBf16::widen(a);
        return sum + pairs.even + pairs.odd;
    }
#endif

    // Bytes of two vectors of words, packed within 128 bits as well.
    using B = __m512i;
    static constexpr int kWordsOfB = 2;
    static B pack_b(const W (&w)[2]) { return _mm512_packus_epi16(w[0], w[1]); }
    static int byte_column(int i) { return i / 4 % 4 * kWidth + i / 16 * 4 + i % 4; }
    static B first_b(B a, int n) { return _mm512_maskz_mov_epi8((uint64_t{1} << n) - 1, a); }
    static void store_b(uint8_t* p, B a) { _mm512_storeu_si512(p, a); }
    static I sum_bytes(I sum, B a) { return sum + I(_mm512_sad_epu8(a, _mm512_setzero_si512())); }

    static I load_dwords(const void* p) { return _mm512_load_si512(p); }
    static I broadcast_dword(const void* p) {
        int32_t x;
        memcpy(&x, p, 4);
        return _mm512_set1_epi32(x);
    }

    // Accumulators, and operands that need no unpacking.
    struct FloatSums {
        static constexpr bool kFloat = true;
        using Acc = F;
        static Acc zero() { return _mm512_setzero_ps(); }
    };
    struct IntSums {
        static constexpr bool kFloat = false;
        using Acc = I;
        static Acc zero() { return _mm512_setzero_si512(); }
    };
    struct Dwords {
        using Operand = I;
        static Operand broadcast(const void* p) { return broadcast_dword(p); }
        static Operand load(const void* p) { return load_dwords(p); }
    };

    struct DotF32 : FloatSums {
        using Operand = F;
        static Operand broadcast(const void* p) { return _mm512_set1_ps(*static_cast<const float*>(p)); }
        static Operand load(const void* p) { return _mm512_load_ps(p); }
        static Acc dot(Acc acc, Operand a, Operand b) { return _mm512_fmadd_ps(a, b, acc); }
    };

    // Dot-product instructions are inline assembly where possible: with the intrinsics GCC copies
    // accumulators between registers, which halves the speed.
#if defined(QORA_UNIT_BF16)
    struct DotBf16 : FloatSums, Dwords {
        static Acc dot(Acc acc, Operand a, Operand b) {
#if defined(__GNUC__)
            __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc.v) : "v"(a.v), "v"(b.v));
            return acc;
#else
            return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh&>(a), reinterpret_cast<__m512bh&>(b));
#endif
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
            return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
                    _mm512_castsi512_ps(_mm512_and_si512(pairs, set_i(-65536)))};
        }
        static Operand broadcast(const void* p) { return widen(broadcast_dword(p)); }
        static Operand load(const void* p) { return widen(load_dwords(p)); }
        static Acc dot(Acc acc, Operand a, Operand b) { return fma(a.odd, b.odd, fma(a.even, b.even, acc)); }
    };
    static constexpr int kRowsBf16 = 4;
#endif

#if defined(QORA_UNIT_VNNI)
    struct DotI16 : IntSums, Dwords {
        static Acc dot(Acc acc, Operand a, Operand b) {
#if defined(__GNUC__)
            __asm__("vpdpwssd %2, %1, %0" : "+v"(acc.v) : "v"(a.v), "v"(b.v));
            return acc;
#else
            return _mm512_dpwssd_epi32(acc, a, b);
#endif
        }
    };
    struct DotI8 : IntSums, Dwords {
        static Acc dot(Acc acc, Operand a, Operand b) {
#if defined(__GNUC__)
            __asm__("vpdpbusd %2, %1, %0" : "+v"(acc.v) : "v"(a.v), "v"(b.v));
            return acc;
#else
            return _mm512_dpbusd_epi32(acc, a, b);
#endif
        }
    };
    static constexpr int kRowsI8 = 6;
#else
    struct DotI16 : IntSums, Dwords {
        static Acc dot(Acc acc, Operand a, Operand b) { return acc + I(_mm512_madd_epi16(a, b)); }
    };
    // vpmaddubsw would saturate, so the bytes are widened to int16 instead, which is exact.
    struct DotI8 : IntSums {
        struct Operand {
            I even, odd;
        };
        static Operand broadcast(const void* p) {
            const I bytes = broadcast_dword(p);
            return {_mm512_and_si512(bytes, _mm512_set1_epi16(0xff)), _mm512_srli_epi16(bytes, 8)};
        }
        static Operand load(const void* p) {
            const I bytes = load_dwords(p);
            return {_mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8), _mm512_srai_epi16(bytes, 8)};
        }
        static Acc dot(Acc acc, Operand a, Operand b) {
            const I even = _mm512_madd_epi16(a.even, b.even), odd = _mm512_madd_epi16(a.odd, b.odd);
            return acc + even + odd;
        }
    };
    static constexpr int kRowsI8 = 4;
#endif

    // Thirty-two registers: 6 x 4 accumulators, four vectors of B, one of A.
    static constexpr int kI8Offset = 0;
    static constexpr int kTileVectors = 4;
    // Whether a tile's loop has room for a prefetch instruction; otherwise the tile prefetches before its
    // loop.
    static constexpr bool kPrefetchInLoop = true;
    static constexpr int kRowsF32 = 6, kRowsI16 = 6;
};

}  // namespace
}  // namespace qora
