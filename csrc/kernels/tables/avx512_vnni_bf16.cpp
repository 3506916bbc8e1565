// AVX-512 with VNNI and BF16 (Cooper Lake, Sapphire Rapids, Zen 4 and later).
#define QORA_UNIT_VNNI 1
#define QORA_UNIT_BF16 1
#include "kernels/algorithms/table.inl.h"
#include "kernels/simd/simd_avx512.h"

namespace qora {

const KernelTable& avx512_vnni_bf16_table() noexcept {
    static constexpr KernelTable table = make_table<Avx512Simd>(Family::kBf16, Family::kBf16, Family::kI8);
    return table;
}

}  // namespace qora
