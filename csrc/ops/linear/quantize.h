// Quantisation of float32 weights to the groups of the model file.
#pragma once

#include "ops/linear/stored_weights.h"

namespace qora {

// Quantises rows x cols float32 weights to q8 or q4 groups of 32 along a row, symmetric, one fp16 scale each.
// A search picks each group's scale so that the sum of squared errors is small: with the levels -8..7 of q4
// the value of largest magnitude becomes -8, -7 or, if that is better for the other values, is clipped. The
// result has the same bits on every CPU. data and scales: see WeightView. The last group is padded with
// zeros. Groups below 2^-22 may become zeros. Throws std::invalid_argument when a weight is not finite or a
// scale overflows fp16.
void quantise(WeightKind kind, const float* weight, int64_t rows, int64_t cols, void* data, uint16_t* scales,
              int num_threads);

}  // namespace qora
