// NEON as every AArch64 CPU has it (Armv8.0: Cortex-A53, A72).
#include "kernels/simd/simd_neon.h"

#include "kernels/algorithms/table.inl.h"

namespace qora {

const KernelTable& neon_table() noexcept {
    static constexpr KernelTable table = [] {
        KernelTable t = whole_table<NeonSimd, NeonSimd::DotQ4>();
        t.auto_q4 = Family::kQ4;
        return t;
    }();
    return table;
}

}  // namespace qora
