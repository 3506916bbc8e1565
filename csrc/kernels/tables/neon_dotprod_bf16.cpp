// NEON with dot products of bytes and of bf16 (Neoverse V1 and N2, Cortex-A710, Apple M2 and later).
#define QORA_UNIT_DOTPROD 1
#define QORA_UNIT_BF16 1
#include "kernels/algorithms/table.inl.h"
#include "kernels/simd/simd_neon.h"

namespace qora {

const KernelTable& neon_dotprod_bf16_table() noexcept {
    static constexpr KernelTable table = make_table<NeonSimd>(Family::kBf16, Family::kBf16, Family::kI8);
    return table;
}

}  // namespace qora
