// Peak rates of the machine, with which benchmarks compare their results.
#pragma once

#include "kernels/kernel_table.h"

namespace qora {

// Gop/s (a multiply-add is two operations) of a family's tile on operands in the L1 cache, of all threads
// together, the best of several runs of a few milliseconds.
double tile_peak(const KernelTable& table, Family family, int num_threads);

// GB/s at which all threads together read an array much larger than the caches, the best of several runs.
double memory_peak(int num_threads);

}  // namespace qora
