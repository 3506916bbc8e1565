// Helpers that the Vec wrappers of AVX2 and AVX-512 share.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace qora {
namespace {

struct X86Bytes {
    static void look_up_nibbles(const int8_t (&table)[16], const uint8_t* x, int8_t* y) {
        const auto load = [](const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); };
        const __m256i values = _mm256_broadcastsi128_si256(load(table)),
                      words = _mm256_cvtepu8_epi16(load(x));
        const __m256i both = _mm256_or_si256(words, _mm256_slli_epi16(words, 4));
        const __m256i index = _mm256_and_si256(both, _mm256_set1_epi8(15));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm256_shuffle_epi8(values, index));
    }
};

}  // namespace
}  // namespace qora
