// The ceiling that benchmarks hold everything else against.
#pragma once

#include "kernels/kernel_table.h"

namespace qora {

// Gop/s (a multiply-add is two) of a family's tile on operands that stay in the L1, all threads together,
// best of several tries of a few milliseconds.
double tile_peak(const KernelTable& table, Family family, int num_threads);

}  // namespace qora
