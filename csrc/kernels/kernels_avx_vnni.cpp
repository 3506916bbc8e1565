// AVX2 with AVX-VNNI (Alder Lake, Zen 5 and later): dot products of bytes and of int16 in 256 bits.
#define QORA_UNIT_VNNI 1
#include "kernels/simd_avx2.h"
#include "kernels/table.inl.h"

namespace qora {

const KernelTable& avx_vnni_table() noexcept {
    static constexpr KernelTable table = make_table<Avx2Simd>(Family::kF32, Family::kI16, Family::kI8);
    return table;
}

}  // namespace qora
