// NEON as every AArch64 CPU has it (Armv8.0: Cortex-A53, A72).
#include "kernels/algorithms/table.inl.h"
#include "kernels/simd/simd_neon.h"

namespace qora {

const KernelTable& neon_table() noexcept {
    static constexpr KernelTable table =
        make_table<NeonSimd, NeonSimd::DotQ4>(Family::kF32, Family::kF32, Family::kF32, Family::kQ4);
    return table;
}

}  // namespace qora
