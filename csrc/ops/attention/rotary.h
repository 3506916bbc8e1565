// Rotary positions: pairs of channels are rotated by the position of their token (Su et al. 2021,
// "RoFormer").
#pragma once

#include "core/views.h"
#include "kernels/kernel_table.h"
#include "ops/attention/heads.h"

namespace qora {

// The first `channels` channels of every head of x, changed in place through `result`, which is x's memory.
// cosines and sines are (x.rows, channels), an angle for each channel: the two of a pair may differ, as they
// do in V-JEPA 2. `KernelTable::rotate` has the formula for a pair.
void rotate(const KernelTable& table, const HeadView& x, uint8_t* result, int64_t channels,
            const float* cosines, const float* sines, int num_threads);

}  // namespace qora
