// AVX-512 with VNNI (Cascade Lake, Ice Lake, Tiger Lake): dot products of bytes and of int16.
#define QORA_UNIT_VNNI 1
#include "kernels/algorithms/table.inl.h"
#include "kernels/simd/simd_avx512.h"

namespace qora {

const KernelTable& avx512_vnni_table() noexcept {
    static constexpr KernelTable table = make_table<Avx512Simd>(Family::kF32, Family::kI16, Family::kI8);
    return table;
}

}  // namespace qora
