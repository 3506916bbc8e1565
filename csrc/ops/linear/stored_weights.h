// A weight matrix in the forms that model files store.
#pragma once

#include <cstdint>

#include "core/views.h"
#include "kernels/kernel_table.h"

namespace qora {

// Stored forms of a weight matrix. Quantised ones hold groups of kGroupSize along the input, one fp16
// scale each.
enum class WeightKind : uint8_t { kF32, kF16, kQ8, kQ4 };

// A row-major weight (rows = output features) in the canonical layout of the model file; borrowed memory.
struct WeightView {
    WeightKind kind = WeightKind::kF32;
    int64_t rows = 0, cols = 0;  // cols: input features, without the padding of the last group
    const void* data = nullptr;  // f32/f16 [rows][cols]; q8 [rows][groups * 32]; q4 [rows][groups * 16], low
                                 // nibble first, biased by 8
    const uint16_t* scales = nullptr;  // fp16 [rows][groups], quantised kinds only

    int64_t groups() const { return ceil_div(cols, kGroupSize); }
};

float half_to_float(uint16_t half);

// Writes row `row` of `weight` as cols float32 values.
void dequantise_row(const WeightView& weight, int64_t row, float* out);

}  // namespace qora
