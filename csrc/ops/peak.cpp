#include "ops/peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/parallel.h"
#include "core/views.h"

namespace qora {

double tile_peak(const KernelTable& table, Family family, int num_threads) {
    constexpr int64_t kSteps = 64, kCalls = 4000, kTries = 10;
    const FamilyKernels& kernels = table.family[static_cast<int>(family)];
    const int64_t threads = resolve_threads(num_threads),
                  panel_bytes = operand_bytes(family, kSteps, table.nr);
    const auto work = [&](int64_t, int64_t) {
        Buffer a(static_cast<size_t>(kernels.mr * kSteps * 4)), b(static_cast<size_t>(panel_bytes));
        Buffer c(static_cast<size_t>(kernels.mr * table.nr * 4));
        std::memset(a.data(), 0, a.capacity());
        std::memset(b.data(), 0, b.capacity());
        for (int64_t i = 0; i < kCalls; ++i)
            kernels.tile(a.data(), kSteps * 4, b.data(), kSteps, kernels.mr, c.data(), table.nr * 4, false);
    };
    double best = 1e30;
    for (int64_t i = 0; i < kTries; ++i) {
        const auto started = std::chrono::steady_clock::now();
        parallel_for(threads, 1, num_threads, work);
        best =
            std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    }
    const double operations = 2.0 * kernels.mr * table.nr * kSteps * family_kr(family);
    return operations * static_cast<double>(kCalls * threads) / best / 1e9;
}

}  // namespace qora
