// NEON with dot products of bytes (Cortex-A76, Neoverse N1, Apple M1 and later).
#define QORA_UNIT_DOTPROD 1
#include "kernels/simd/simd_neon.h"

#include "kernels/algorithms/table.inl.h"

namespace qora {

const KernelTable& neon_dotprod_table() noexcept {
    static const KernelTable table = [] {
        KernelTable t = neon_table();
        t.primitives = &Primitives<NeonSimd>::kTable;
        set_i8<NeonSimd>(t);
        set_q4<NeonSimd>(t);
        t.auto_q4 = t.int8_attention = Family::kI8;
        return t;
    }();
    return table;
}

}  // namespace qora
