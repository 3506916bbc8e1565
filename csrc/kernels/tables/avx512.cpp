// AVX-512 F/BW/VL/DQ (Skylake-X).
#include "kernels/simd/simd_avx512.h"

#include "kernels/algorithms/table.inl.h"

namespace qora {

const KernelTable& avx512_table() noexcept {
    static constexpr KernelTable table = [] {
        KernelTable t = whole_table<Avx512Simd>();
        return t;
    }();
    return table;
}

}  // namespace qora
