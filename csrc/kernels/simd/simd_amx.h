// Tiles of Intel AMX: eight registers of up to 16 rows of 64 bytes, and products of two of them. What sets
// tiles up and moves them stands apart from the products: AMD's and Intel's ACE will share the one and not
// the other.
#pragma once

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
struct AmxConfigurations {
    AmxConfiguration of_rows[16];  // of 1 row, of 2 rows, ...
};

// Registers 0 to 4 have as many rows as are configured, 5 to 7 always sixteen: they are right operands, whose
// rows are steps. Which register an instruction means is part of it, hence assembly with constants:
// intrinsics take no template parameters with GCC.
struct AmxTiles {
    static constexpr int kRows = 16, kRowBytes = 64, kWidth = 16;
    static constexpr int kSteps = 16;  // dwords of a row, which a product multiplies at once

    // Prepares this thread's registers for `rows` rows; what they hold is lost.
    static void configure(int rows);
    // From here on the system has no tiles to save when it switches threads.
    static void release() { __asm__ volatile("tilerelease"); }

    template <int Tile>
    static QORA_INLINE void zero() {
        __asm__ volatile("tilezero %%tmm%c0" : : "i"(Tile));
    }
    template <int Tile>
    static QORA_INLINE void load(const void* p, ptrdiff_t stride) {
        __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(Tile), "r"(p), "r"(stride) : "memory");
    }
    template <int Tile>
    static QORA_INLINE void store(void* p, ptrdiff_t stride) {
        __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(Tile), "r"(p), "r"(stride) : "memory");
    }
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
constexpr AmxConfigurations kAmxConfigurations = all_amx_configurations();

inline void AmxTiles::configure(int rows) {
    __asm__ volatile("ldtilecfg %0" : : "m"(kAmxConfigurations.of_rows[rows - 1]));
}

// u8 times s8, summed in int32.
struct AmxI8 {
    static constexpr bool kFloat = false;
    template <int Sums, int Left, int Right>
    static QORA_INLINE void dot() {
        __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(Left), "i"(Right));
    }
};

// bf16, summed in float32.
struct AmxBf16 {
    static constexpr bool kFloat = true;
    template <int Sums, int Left, int Right>
    static QORA_INLINE void dot() {
        __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(Left), "i"(Right));
    }
};

}  // namespace
}  // namespace qora
