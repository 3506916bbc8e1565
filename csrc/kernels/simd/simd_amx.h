// Tiles of Intel AMX: eight registers of up to 16 rows of 64 bytes, and products of two of them. What sets
// tiles up and moves them stands apart from the products: AMD's and Intel's ACE will share the one and not
// the other.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/compiler.h"

namespace qora {
namespace {

// As LDTILECFG reads it.
struct alignas(64) AmxConfiguration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

// Registers 0 to 3 are sums, 4 is the left operand, 5 to 7 take turns as the right one. Which register an
// instruction means is part of it: hence the chains of `if constexpr`.
struct AmxTiles {
    static constexpr int kRows = 16, kRowBytes = 64, kWidth = 16;
    static constexpr int kSteps = 16;  // dwords of a row, which a product multiplies at once

    template <int Sums>
    static QORA_INLINE void zero_sums() {
        if constexpr (Sums == 0) _tile_zero(0);
        if constexpr (Sums == 1) _tile_zero(1);
        if constexpr (Sums == 2) _tile_zero(2);
        if constexpr (Sums == 3) _tile_zero(3);
    }
    template <int Sums>
    static QORA_INLINE void load_sums(const void* p, ptrdiff_t stride) {
        if constexpr (Sums == 0) _tile_loadd(0, p, stride);
        if constexpr (Sums == 1) _tile_loadd(1, p, stride);
        if constexpr (Sums == 2) _tile_loadd(2, p, stride);
        if constexpr (Sums == 3) _tile_loadd(3, p, stride);
    }
    template <int Sums>
    static QORA_INLINE void store_sums(void* p, ptrdiff_t stride) {
        if constexpr (Sums == 0) _tile_stored(0, p, stride);
        if constexpr (Sums == 1) _tile_stored(1, p, stride);
        if constexpr (Sums == 2) _tile_stored(2, p, stride);
        if constexpr (Sums == 3) _tile_stored(3, p, stride);
    }
    static QORA_INLINE void load_left(const void* p, ptrdiff_t stride) { _tile_loadd(4, p, stride); }
    // What sums 0 to 3 take.
    template <int Sums>
    static QORA_INLINE void load_right(const void* p, ptrdiff_t stride) {
        if constexpr (Sums == 0 || Sums == 3) _tile_loadd(5, p, stride);
        if constexpr (Sums == 1) _tile_loadd(6, p, stride);
        if constexpr (Sums == 2) _tile_loadd(7, p, stride);
    }

    // Prepares this thread's registers for left operands of `rows` rows; what they hold is lost.
    static void configure(int rows);
    // From here on the system has no tiles to save when it switches threads.
    static void release() { _tile_release(); }
};

struct AmxConfigurations {
    AmxConfiguration of_rows[AmxTiles::kRows];  // of 1 row, of 2 rows, ...
};
constexpr AmxConfigurations all_amx_configurations() {
    AmxConfigurations all{};
    for (int rows = 1; rows <= AmxTiles::kRows; ++rows) {
        AmxConfiguration& c = all.of_rows[rows - 1];
        c.palette = 1;
        for (int i = 0; i < 8; ++i) {
            c.row_bytes[i] = AmxTiles::kRowBytes;
            c.rows[i] = static_cast<uint8_t>(i < 5 ? rows : AmxTiles::kSteps);
        }
    }
    return all;
}
// In memory rather than on the stack: GCC's intrinsic does not say that it reads all of it.
constexpr AmxConfigurations kAmxConfigurations = all_amx_configurations();

inline void AmxTiles::configure(int rows) { _tile_loadconfig(&kAmxConfigurations.of_rows[rows - 1]); }

// u8 times s8, summed in int32.
struct AmxI8 {
    static constexpr bool kFloat = false;
    template <int Sums>
    static QORA_INLINE void dot() {
        if constexpr (Sums == 0) _tile_dpbusd(0, 4, 5);
        if constexpr (Sums == 1) _tile_dpbusd(1, 4, 6);
        if constexpr (Sums == 2) _tile_dpbusd(2, 4, 7);
        if constexpr (Sums == 3) _tile_dpbusd(3, 4, 5);
    }
};

// bf16, summed in float32.
struct AmxBf16 {
    static constexpr bool kFloat = true;
    template <int Sums>
    static QORA_INLINE void dot() {
        if constexpr (Sums == 0) _tile_dpbf16ps(0, 4, 5);
        if constexpr (Sums == 1) _tile_dpbf16ps(1, 4, 6);
        if constexpr (Sums == 2) _tile_dpbf16ps(2, 4, 7);
        if constexpr (Sums == 3) _tile_dpbf16ps(3, 4, 5);
    }
};

}  // namespace
}  // namespace qora
