// AVX-512 F/BW/VL/DQ (Skylake-X).
#include "kernels/algorithms/table.inl.h"
#include "kernels/simd/simd_avx512.h"

namespace qora {

const KernelTable& avx512_table() noexcept {
    static constexpr KernelTable table = make_table<Avx512Simd>(Family::kF32, Family::kF32, Family::kF32);
    return table;
}

}  // namespace qora
