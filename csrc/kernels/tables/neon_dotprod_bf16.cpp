// NEON with dot products of bytes and of bf16 (Neoverse V1 and N2, Cortex-A710, Apple M2 and later).
#define QORA_UNIT_DOTPROD 1
#define QORA_UNIT_BF16 1
#include "kernels/simd/simd_neon.h"

#include "kernels/algorithms/table.inl.h"

namespace qora {

const KernelTable& neon_dotprod_bf16_table() noexcept {
    static const KernelTable table = [] {
        KernelTable t = neon_dotprod_table();
        t.primitives = &Primitives<NeonSimd>::kTable;
        set_bf16<NeonSimd>(t);
        t.auto_float = t.auto_attention = Family::kBf16;
        return t;
    }();
    return table;
}

}  // namespace qora
