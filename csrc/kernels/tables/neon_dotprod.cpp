// NEON with dot products of bytes (Cortex-A76, Neoverse N1, Apple M1 and later).
#define QORA_UNIT_DOTPROD 1
#include "kernels/algorithms/table.inl.h"
#include "kernels/simd/simd_neon.h"

namespace qora {

const KernelTable& neon_dotprod_table() noexcept {
    static constexpr KernelTable table = make_table<NeonSimd>(Family::kF32, Family::kF32, Family::kI8);
    return table;
}

}  // namespace qora
