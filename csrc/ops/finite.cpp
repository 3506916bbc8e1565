#include "ops/finite.h"

#include <atomic>
#include <cmath>

#include "ops/ranges.h"

namespace qora {

bool all_finite(const KernelTable& table, const float* x, int64_t n, int num_threads) {
    constexpr int64_t kRange = 1 << 16;  // enough work for one thread
    std::atomic<bool> finite{true};
    parallel_ranges(table, n, kRange, num_threads, [&](int64_t begin, int64_t end) {
        const float* range = x + begin;
        float largest;
        table.largest(&range, 1, end - begin, &largest);
        if (!std::isfinite(largest)) finite.store(false, std::memory_order_relaxed);
    });
    return finite;
}

}  // namespace qora
