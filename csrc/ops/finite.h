// A test for NaN and infinity.
#pragma once

#include "kernels/kernel_table.h"

namespace qora {

// False if any of n values is NaN or infinite.
bool all_finite(const KernelTable& table, const float* x, int64_t n, int num_threads);

}  // namespace qora
