// AVX2 with AVX-VNNI (Alder Lake, Zen 5 and later): dot products of bytes and of int16 in 256 bits.
#define QORA_UNIT_VNNI 1
#include "kernels/algorithms/table.inl.h"
#include "kernels/simd/simd_avx2.h"

namespace qora {

const KernelTable& avx_vnni_table() noexcept {
    static constexpr KernelTable table = make_table<Avx2Simd>(Family::kF32, Family::kI16, Family::kI8);
    return table;
}

}  // namespace qora
