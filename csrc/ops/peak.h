// The ceilings that benchmarks hold everything else against.
#pragma once

#include "kernels/kernel_table.h"

namespace qora {

// Gop/s (a multiply-add is two) of a family's tile on operands that stay in the L1, all threads together,
// best of several tries of a few milliseconds.
double tile_peak(const KernelTable& table, Family family, int num_threads);

// GB/s at which all threads together read an array much larger than the caches, best of several tries.
double memory_peak(int num_threads);

}  // namespace qora
