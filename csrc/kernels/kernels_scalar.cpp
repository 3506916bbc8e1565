// No vector instructions: every build has it, and it is the fallback on platforms without a table of their
// own.
#include "kernels/simd_scalar.h"
#include "kernels/table.inl.h"

namespace qora {

const KernelTable& scalar_table() noexcept {
    static constexpr KernelTable table = make_table<ScalarSimd>(Family::kF32, Family::kF32, Family::kF32);
    return table;
}

}  // namespace qora
