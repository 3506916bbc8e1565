#include "kernels/dispatch.h"

namespace qora {

const KernelTable& kernel_table(Isa isa) {
    switch (isa) {
#if defined(__x86_64__) || defined(_M_X64)
        case Isa::kAvx2: return avx2_table();
        case Isa::kAvxVnni: return avx_vnni_table();
        case Isa::kAvx512: return avx512_table();
        case Isa::kAvx512Vnni: return avx512_vnni_table();
        case Isa::kAvx512VnniBf16: return avx512_vnni_bf16_table();
#elif defined(__aarch64__) || defined(_M_ARM64)
        case Isa::kNeon: return neon_table();
        case Isa::kNeonDotprod: return neon_dotprod_table();
#if !defined(_MSC_VER) || defined(__clang__)
        case Isa::kNeonDotprodBf16: return neon_dotprod_bf16_table();
#endif
#endif
        default: return scalar_table();
    }
}

}  // namespace qora
