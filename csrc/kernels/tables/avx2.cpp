// AVX2 + FMA + F16C (Haswell, Zen and later).
#include "kernels/algorithms/table.inl.h"
#include "kernels/simd/simd_avx2.h"

namespace qora {

const KernelTable& avx2_table() noexcept {
    static constexpr KernelTable table =
        make_table<Avx2Simd, Avx2Simd::DotQ4>(Family::kF32, Family::kI16, Family::kI16, Family::kQ4);
    return table;
}

}  // namespace qora
