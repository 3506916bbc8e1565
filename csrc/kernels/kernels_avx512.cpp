// AVX-512 F/BW/VL/DQ (Skylake-X).
#include "kernels/simd_avx512.h"
#include "kernels/table.inl.h"

namespace qora {

const KernelTable& avx512_table() noexcept {
    static constexpr KernelTable table = make_table<Avx512Simd>(Family::kF32, Family::kF32, Family::kF32);
    return table;
}

}  // namespace qora
