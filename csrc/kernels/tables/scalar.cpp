// No vector instructions. Every build has this table; it is the fallback on platforms without a table of
// their own.
#include "kernels/simd/simd_scalar.h"

#include "kernels/algorithms/table.inl.h"

namespace qora {

const KernelTable& scalar_table() noexcept {
    static constexpr KernelTable table = [] {
        KernelTable t = whole_table<ScalarSimd>();
        return t;
    }();
    return table;
}

}  // namespace qora
