// AVX2 with AVX-VNNI (Alder Lake, Zen 5 and later): dot products of bytes and of int16 in 256 bits.
#define QORA_UNIT_VNNI 1
#include "kernels/simd/simd_avx2.h"

#include "kernels/algorithms/table.inl.h"

namespace qora {

const KernelTable& avx_vnni_table() noexcept {
    static const KernelTable table = [] {
        KernelTable t = avx2_table();
        t.primitives = &Primitives<Avx2Simd>::kTable;
        set_i16<Avx2Simd>(t);
        set_i8<Avx2Simd>(t);
        set_q4<Avx2Simd>(t);
        t.auto_q4 = Family::kI8;
        t.int8_attention = Family::kI8;
        return t;
    }();
    return table;
}

}  // namespace qora
