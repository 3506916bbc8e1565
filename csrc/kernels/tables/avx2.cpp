// AVX2 + FMA + F16C (Haswell, Zen and later).
#include "kernels/simd/simd_avx2.h"

#include "kernels/algorithms/table.inl.h"

namespace qora {

const KernelTable& avx2_table() noexcept {
    static constexpr KernelTable table = [] {
        KernelTable t = whole_table<Avx2Simd, Avx2Simd::DotQ4>();
        t.auto_q4 = Family::kQ4;
        t.auto_attention = t.int8_attention = Family::kI16;
        return t;
    }();
    return table;
}

}  // namespace qora
