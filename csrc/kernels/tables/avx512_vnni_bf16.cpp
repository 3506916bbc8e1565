// AVX-512 with VNNI and BF16 (Cooper Lake, Sapphire Rapids, Zen 4 and later).
#define QORA_UNIT_VNNI 1
#define QORA_UNIT_BF16 1
#include "kernels/simd/simd_avx512.h"

#include "kernels/algorithms/table.inl.h"

namespace qora {

const KernelTable& avx512_vnni_bf16_table() noexcept {
    static const KernelTable table = [] {
        KernelTable t = avx512_vnni_table();
        t.primitives = &Primitives<Avx512Simd>::kTable;
        set_bf16<Avx512Simd>(t);
        t.auto_float = t.auto_attention = Family::kBf16;
        return t;
    }();
    return table;
}

}  // namespace qora
