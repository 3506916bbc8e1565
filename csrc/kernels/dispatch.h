// The kernel table of each instruction set.
#pragma once

#include "core/isa.h"
#include "kernels/kernel_table.h"

namespace qora {

const KernelTable& kernel_table(Isa isa);

}  // namespace qora
