// From float32 weights to the canonical groups of the model file.
#pragma once

#include "ops/pack.h"

namespace qora {

// Quantises rows x cols float32 weights to q8 or q4 groups of 32 along a row, symmetric, one fp16 scale each.
// q8: scale = max|w| / 127. q4: scale = w_max / -8 with the sign of the largest |w|, so that it maps to -8
// exactly and all sixteen levels are used. data and scales: see WeightView. The last group is padded with
// zeros. Throws std::invalid_argument when a weight is not finite or a scale overflows fp16.
void quantise(WeightKind kind, const float* weight, int64_t rows, int64_t cols, void* data, uint16_t* scales,
              int num_threads);

}  // namespace qora
