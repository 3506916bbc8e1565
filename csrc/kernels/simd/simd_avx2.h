// The Vec wrapper of AVX2 + FMA + F16C: eight lanes. A unit that defines QORA_UNIT_VNNI may use AVX-VNNI too.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/compiler.h"
#include "kernels/simd/simd_x86.h"

namespace qora {
namespace {

struct Avx2Simd : X86Bytes {
    static constexpr int kWidth = 8;
    // Vectors with operators, each one instruction: a product and a sum are rounded separately, fma() once.
    // They convert to and from the types of the intrinsics. Never apply an operator to two values of those
    // types: compilers choose the width of the lanes themselves.
    struct F {
        __m256 v;
        F() = default;
        F(__m256 x) : v(x) {}
        operator __m256() const { return v; }
        friend F operator+(F a, F b) { return _mm256_add_ps(a.v, b.v); }
        friend F operator-(F a, F b) { return _mm256_sub_ps(a.v, b.v); }
        friend F operator*(F a, F b) { return _mm256_mul_ps(a.v, b.v); }
    };
    struct I {
        __m256i v;
        I() = default;
        I(__m256i x) : v(x) {}
        operator __m256i() const { return v; }
        friend I operator+(I a, I b) { return _mm256_add_epi32(a.v, b.v); }
        friend I operator-(I a, I b) { return _mm256_sub_epi32(a.v, b.v); }
        friend I operator*(I a, I b) { return _mm256_mullo_epi32(a.v, b.v); }
    };

    static F set(float x) { return _mm256_set1_ps(x); }
    static F load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
    static I lane_mask(int n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static F load_n(const float* p, int n, float fill) {
        const I mask = lane_mask(n);
        return _mm256_blendv_ps(set(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
    }
    static void store_n(float* p, F x, int n) { _mm256_maskstore_ps(p, lane_mask(n), x); }
    static void load_pairs(const float* p, F& even, F& odd) {
        const F low = load(p), high = load(p + 8);
        even = _mm256_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0));
        odd = _mm256_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1));
    }
    static void store_pairs(float* p, F even, F odd) {
        store(p, _mm256_unpacklo_ps(even, odd));
        store(p + 8, _mm256_unpackhi_ps(even, odd));
    }
    static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
    static F max(F a, F b) { return _mm256_max_ps(a, b); }
    static F min(F a, F b) { return _mm256_min_ps(a, b); }
    static F abs(F a) { return _mm256_andnot_ps(set(-0.0f), a); }
    static F sqrt(F a) { return _mm256_sqrt_ps(a); }
    // rcpps has a relative error of 1.5 * 2^-12; one Newton step reduces it to about one ulp.
    static F reciprocal(F a) {
        const F r = _mm256_rcp_ps(a);
        return r * F(_mm256_fnmadd_ps(a, r, set(2.0f)));
    }
    static F round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    // x * 2^n for an integral n from -126 to 127.
    static F scale_by_power(F x, F n) {
        const I biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), set_i(127));
        return x * F(_mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)));
    }
    static float sum(F a) {
        __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
    }
    static float max_lane(F a) {
        __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
    }
    static float min_lane(F a) { return -max_lane(set(0.0f) - a); }
    static float first(F a) { return _mm256_cvtss_f32(a); }

    static I set_i(int32_t x) { return _mm256_set1_epi32(x); }
    static I load_i(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static void store_i(int32_t* p, I x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
    static I max_i(I a, I b) { return _mm256_max_epi32(a, b); }
    static I min_i(I a, I b) { return _mm256_min_epi32(a, b); }
    static int32_t max_lane_i(I a) {
        __m128i x = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        x = _mm_max_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(1, 0, 3, 2)));
        return _mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(2, 3, 0, 1))));
    }
    static I shift_right_i(I a, int n) { return _mm256_sra_epi32(a, _mm_cvtsi32_si128(n)); }
    static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
    static I to_int(F a) { return _mm256_cvtps_epi32(a); }

    static F widen_bf16(__m128i half) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
    }
    static F load_bf16(const uint16_t* p) {
        return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static F load_bf16_n(const uint16_t* p, int n) {
        uint16_t lanes[8] = {};
        memcpy(lanes, p, static_cast<size_t>(n) * 2);
        return load_bf16(lanes);
    }
    static __m128i to_bf16(F x) {
        const I bits = _mm256_castps_si256(x);
        const I odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), set_i(1));
        const I rounded = bits + odd + set_i(0x7fff);
        const I quiet = _mm256_or_si256(bits, set_i(0x00400000));
        const I nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
        const I high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
        return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    }
    static void store_bf16(uint16_t* p, F x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_bf16(x)); }
    static void store_bf16_n(uint16_t* p, F x, int n) {
        uint16_t lanes[8];
        store_bf16(lanes, x);
        memcpy(p, lanes, static_cast<size_t>(n) * 2);
    }
    static __m128i to_i16(I x) {
        return _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    }
    static void store_i16(int16_t* p, I x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_i16(x)); }
    static void store_bytes(uint8_t* p, I x) {
        const __m128i words = to_i16(x);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
    }
    static void store_signed_bytes(int8_t* p, I x) {
        const __m128i words = to_i16(x);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
    }
    static void store_bytes(uint8_t* p, const I (&x)[4]) {
        const I low = _mm256_packs_epi32(x[0], x[1]), high = _mm256_packs_epi32(x[2], x[3]);
        const I order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                            _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order));
    }

    // Eight rows of eight dwords become columns: within 128 bits first, then whole halves.
    static void transpose(I (&x)[8]) {
        I t[8];
        QORA_UNROLL
        for (int i = 0; i < 8; i += 2) {
            t[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
            t[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
        }
        QORA_UNROLL
        for (int i = 0; i < 8; i += 4) {
            x[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
            x[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
            x[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
            x[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
        }
        QORA_UNROLL
        for (int i = 0; i < 4; ++i) {
            const I low = x[i], high = x[i + 4];
            x[i] = _mm256_permute2x128_si256(low, high, 0x20);
            x[i + 4] = _mm256_permute2x128_si256(low, high, 0x31);
        }
    }
    // The low words of each dword of two vectors; and a bf16 value as such a low word.
    static I pair_words(I low, I high) { return _mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xaa); }
    // The low bytes of each dword of four vectors.
    static I quad_bytes(I a, I b, I c, I d) {
        const auto byte = [](I x) { return _mm256_and_si256(x, set_i(255)); };
        const I low = _mm256_or_si256(byte(a), _mm256_slli_epi32(byte(b), 8));
        return pair_words(low, _mm256_or_si256(byte(c), _mm256_slli_epi32(d, 8)));
    }
    static I bf16_words(F x) { return _mm256_cvtepu16_epi32(to_bf16(x)); }

    // Words. Packing works on 128 bits at a time: four lanes of one vector, four of the other.
    using W = __m256i;
    static W set_w(int16_t x) { return _mm256_set1_epi16(x); }
    static W pack_w(I a, I b) { return _mm256_packs_epi32(a, b); }
    static int packed_column(int i) { return i / 4 % 2 * kWidth + i / 8 * 4 + i % 4; }
    static W add_w(W a, W b) { return _mm256_add_epi16(a, b); }
    static W sub_w(W a, W b) { return _mm256_subs_epi16(a, b); }
    static W mul_w(W a, W b) { return _mm256_mulhrs_epi16(a, b); }
    template <int N>
    static W shift_left_w(W a) {
        return _mm256_slli_epi16(a, N);
    }
    template <int N>
    static W shift_right_w(W a) {
        return _mm256_srai_epi16(a, N);
    }
    // There are no word shifts by lane, so the upper and the lower byte of a power come from tables.
    template <int P>
    static W power_w(W n) {
        const auto upper_byte = [](int i) { return static_cast<char>((1 << P >> i) >> 8); };
        const auto lower_byte = [](int i) { return static_cast<char>((1 << P >> i) & 255); };
        const W upper = table_of(upper_byte), lower = table_of(lower_byte);
        n = _mm256_min_epi16(n, set_w(15));
        return _mm256_or_si256(_mm256_slli_epi16(_mm256_shuffle_epi8(upper, n), 8),
                               _mm256_shuffle_epi8(lower, n));
    }
    template <class Byte>
    static W table_of(Byte b) {
        return _mm256_broadcastsi128_si256(_mm_setr_epi8(b(0), b(1), b(2), b(3), b(4), b(5), b(6), b(7), b(8),
                                                         b(9), b(10), b(11), b(12), b(13), b(14), b(15)));
    }
    static W first_w(W a, int n) {
        const W index = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        return _mm256_and_si256(a, _mm256_cmpgt_epi16(set_w(static_cast<int16_t>(n)), index));
    }
    static void store_w(int16_t* p, W a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
    static I sum_pairs(I sum, W a) { return sum + I(_mm256_madd_epi16(a, set_w(1))); }
    static F sum_bf16(F sum, W a) {
        const auto pairs = DotBf16::widen(a);
        return sum + pairs.even + pairs.odd;
    }

    // Bytes of one vector of words: two vectors would have more than a tile has columns.
    using B = __m128i;
    static constexpr int kWordsOfB = 1;
    static B pack_b(const W (&w)[1]) {
        return _mm_packus_epi16(_mm256_castsi256_si128(w[0]), _mm256_extracti128_si256(w[0], 1));
    }
    static int byte_column(int i) { return packed_column(i); }
    static B first_b(B a, int n) {
        const B index = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        return _mm_and_si128(a, _mm_cmpgt_epi8(_mm_set1_epi8(static_cast<char>(n)), index));
    }
    static void store_b(uint8_t* p, B a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), a); }
    static I sum_bytes(I sum, B a) {
        return sum + I(_mm256_zextsi128_si256(_mm_sad_epu8(a, _mm_setzero_si128())));
    }

    static I load_dwords(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
    static I broadcast_dword(const void* p) {
        int32_t x;
        memcpy(&x, p, 4);
        return _mm256_set1_epi32(x);
    }

    struct DotF32 {
        static constexpr bool kFloat = true;
        using Acc = F;
        using Operand = F;
        static Acc zero() { return _mm256_setzero_ps(); }
        static Operand broadcast(const void* p) { return _mm256_broadcast_ss(static_cast<const float*>(p)); }
        static Operand load(const void* p) { return _mm256_load_ps(static_cast<const float*>(p)); }
        static Acc dot(Acc acc, Operand a, Operand b) { return _mm256_fmadd_ps(a, b, acc); }
    };
    // bf16 products in float32 arithmetic: a bf16 value is the upper half of a float32.
    struct DotBf16 {
        static constexpr bool kFloat = true;
        using Acc = F;
        struct Operand {
            F even, odd;
        };
        static Acc zero() { return _mm256_setzero_ps(); }
        static Operand widen(I pairs) {
            return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
                    _mm256_and_ps(_mm256_castsi256_ps(pairs), _mm256_castsi256_ps(set_i(-65536)))};
        }
        static Operand broadcast(const void* p) { return widen(broadcast_dword(p)); }
        static Operand load(const void* p) { return widen(load_dwords(p)); }
        static Acc dot(Acc acc, Operand a, Operand b) { return fma(a.odd, b.odd, fma(a.even, b.even, acc)); }
    };
    // Int32 accumulators, and operands that need no unpacking.
    struct IntSums {
        static constexpr bool kFloat = false;
        using Acc = I;
        static Acc zero() { return _mm256_setzero_si256(); }
    };
    struct Dwords {
        using Operand = I;
        static Operand broadcast(const void* p) { return broadcast_dword(p); }
        static Operand load(const void* p) { return load_dwords(p); }
    };

    // Dot products of integers, and the multiplications and additions that replace them, are inline assembly
    // where possible: around the intrinsics GCC copies accumulators between registers, which costs a quarter
    // of the speed.
#if defined(QORA_UNIT_VNNI)
    struct DotI16 : IntSums, Dwords {
        static Acc dot(Acc acc, Operand a, Operand b) {
#if defined(__GNUC__)
            __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(acc.v) : "x"(a.v), "x"(b.v));
            return acc;
#else
            return _mm256_dpwssd_avx_epi32(acc, a, b);
#endif
        }
    };
    struct DotI8 : IntSums, Dwords {
        static Acc dot(Acc acc, Operand a, Operand b) {
#if defined(__GNUC__)
            __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc.v) : "x"(a.v), "x"(b.v));
            return acc;
#else
            return _mm256_dpbusd_avx_epi32(acc, a, b);
#endif
        }
    };
    static constexpr int kRowsI8 = 6;
#else
    struct DotI16 : IntSums, Dwords {
        static Acc dot(Acc acc, Operand a, Operand b) {
#if defined(__GNUC__)
            __m256i products;
            __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
                    : "+x"(acc.v), "=&x"(products)
                    : "x"(a.v), "x"(b.v));
            return acc;
#else
            return acc + I(_mm256_madd_epi16(a, b));
#endif
        }
    };
    // vpmaddubsw would saturate with full-range bytes. They are widened to int16 instead, which is exact.
    struct DotI8 : IntSums {
        struct Operand {
            I even, odd;
        };
        static Operand broadcast(const void* p) {
            const I bytes = broadcast_dword(p);
            return {_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(bytes, 8)};
        }
        static Operand load(const void* p) {
            const I bytes = load_dwords(p);
            return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
        }
        static Acc dot(Acc acc, Operand a, Operand b) {
            const I even = _mm256_madd_epi16(a.even, b.even), odd = _mm256_madd_epi16(a.odd, b.odd);
            return acc + even + odd;
        }
    };
    static constexpr int kRowsI8 = 4;

    // With four bits, the sums of a group fit an int16: |sum| <= 16 * 255 * 8 = 32640 in each half of a
    // dword.
    struct DotQ4 : Dwords {
        static constexpr int kRows = 6;
        using Acc = I;
        static Acc product(Operand a, Operand b) { return _mm256_maddubs_epi16(a, b); }
        static Acc dot(Acc acc, Operand a, Operand b) {
#if defined(__GNUC__)
            __m256i products;
            __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
                    : "+x"(acc.v), "=&x"(products)
                    : "x"(a.v), "x"(b.v));
            return acc;
#else
            return _mm256_add_epi16(acc, _mm256_maddubs_epi16(a, b));
#endif
        }
        // One for each half.
        static int32_t multiplier(int32_t m) { return (m & 0xffff) | static_cast<int32_t>(m * 65536u); }
        static I multiplied(Acc sums, const uint8_t* multipliers) {
            return _mm256_madd_epi16(sums, load_dwords(multipliers));
        }
    };
#endif

    // Sixteen registers: accumulators, the operands of a step and a temporary must fit.
    static constexpr int kI8Offset = 0;
    static constexpr int kTileVectors = 2;
    // Whether a tile's loop has room for a prefetch instruction; otherwise the tile prefetches before its
    // loop.
    static constexpr bool kPrefetchInLoop = false;
    static constexpr int kRowsF32 = 6, kRowsBf16 = 4, kRowsI16 = 6;
};

}  // namespace
}  // namespace qora
