#include "ops/peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "core/parallel.h"
#include "core/views.h"
#include "ops/ranges.h"

namespace qora {
namespace {

// Seconds of the fastest of the runs that begin within kMeasuringTime. This is long enough for the system to
// move each thread to a core of its own: a new thread may share the core of its parent at first.
template <class Run>
double fastest(const Run& run) {
    using Seconds = std::chrono::duration<double>;
    constexpr Seconds kMeasuringTime{0.5};
    const auto now = [] { return std::chrono::steady_clock::now(); };
    double best = 1e30;
    for (const auto begun = now(); now() - begun < kMeasuringTime;) {
        const auto started = now();
        run();
        best = std::min(best, Seconds(now() - started).count());
    }
    return best;
}

}  // namespace

double tile_peak(const KernelTable& table, Family family, int num_threads) {
    constexpr int64_t kSteps = 64, kCalls = 4000;
    const FamilyKernels& kernels = table.family[index_of(family)];
    const int64_t threads = resolve_threads(num_threads),
                  panel_bytes = operand_bytes(family, kSteps, table.nr);
    const auto work = [&](int64_t, int64_t) {
        Buffer a(static_cast<size_t>(kernels.mr * kSteps * 4)), b(static_cast<size_t>(panel_bytes));
        Buffer c(static_cast<size_t>(kernels.mr * table.nr * 4));
        std::memset(a.data(), 0, a.capacity());
        std::memset(b.data(), 0, b.capacity());
        TileArgs tile{};
        tile.a = a.data();
        tile.a_stride = kSteps * 4;
        tile.b = b.data();
        tile.steps = kSteps;
        tile.rows = kernels.mr;
        tile.c = c.data();
        tile.c_stride = table.nr * 4;
        tile.prefetch.begin = b.data();
        for (int64_t i = 0; i < kCalls; ++i) kernels.tile(tile);
    };
    const double best = fastest([&] { parallel_ranges(table, threads, 1, num_threads, work); });
    const double operations = 2.0 * kernels.mr * table.nr * kSteps * family_kr(family);
    return operations * static_cast<double>(kCalls * threads) / best / 1e9;
}

double memory_peak(int num_threads) {
    constexpr int64_t kBytes = int64_t{256} << 20, kChunk = int64_t{1} << 20, kWords = kChunk / 8;
    Buffer memory(kBytes);
    // Each thread writes its pages first. Otherwise they would all be the system's one page of zeros.
    parallel_for(kBytes, kChunk, num_threads, [&](int64_t begin, int64_t end) {
        std::memset(memory.data() + begin, 1, static_cast<size_t>(end - begin));
    });
    std::vector<uint64_t> sums(kBytes / kChunk);
    const double best = fastest([&] {
        parallel_for(kBytes, kChunk, num_threads, [&](int64_t begin, int64_t) {
            const auto* words = reinterpret_cast<const uint64_t*>(memory.data() + begin);
            uint64_t sum = 0;
            for (int64_t i = 0; i < kWords; ++i) sum += words[i];
            sums[static_cast<size_t>(begin / kChunk)] = sum;
        });
    });
    // Uses the sums, so that the compiler cannot remove the reading.
    check(std::all_of(sums.begin(), sums.end(), [&](uint64_t sum) { return sum == sums[0]; }), "memory_peak",
          "memory changed while it was read");
    return static_cast<double>(kBytes) / best / 1e9;
}

}  // namespace qora
