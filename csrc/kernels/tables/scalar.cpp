// No vector instructions: every build has it, and it is the fallback on platforms without a table of their
// own.
#include "kernels/algorithms/table.inl.h"
#include "kernels/simd/simd_scalar.h"

namespace qora {

const KernelTable& scalar_table() noexcept {
    static constexpr KernelTable table = make_table<ScalarSimd>(Family::kF32, Family::kF32, Family::kF32);
    return table;
}

}  // namespace qora
