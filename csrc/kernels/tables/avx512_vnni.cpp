// AVX-512 with VNNI (Cascade Lake, Ice Lake, Tiger Lake): dot products of bytes and of int16.
#define QORA_UNIT_VNNI 1
#include "kernels/simd/simd_avx512.h"

#include "kernels/algorithms/table.inl.h"

namespace qora {

const KernelTable& avx512_vnni_table() noexcept {
    static const KernelTable table = [] {
        KernelTable t = avx512_table();
        t.primitives = &Primitives<Avx512Simd>::kTable;
        set_i16<Avx512Simd>(t);
        set_i8<Avx512Simd>(t);
        set_q4<Avx512Simd>(t);
        t.auto_attention = Family::kI16;
        t.int8_attention = Family::kI8;
        return t;
    }();
    return table;
}

}  // namespace qora
