#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <stdexcept>
#include <string>

#include "core/cpus.h"
#include "core/views.h"

#if !defined(_OPENMP)
#include "core/thread_pool.h"
#endif

namespace qora {
namespace {

constexpr int kMaxThreads = 4096;

int initial_num_threads() {
    for (const char* variable : {"QORA_VISION_NUM_THREADS", "OMP_NUM_THREADS"}) {
        const char* text = std::getenv(variable);
        const int n = text != nullptr ? std::atoi(text) : 0;
        if (n >= 1 && n <= kMaxThreads) return n;
    }
    return usable_cpus();
}

std::atomic<int>& configured_threads() {
    static std::atomic<int> value{initial_num_threads()};
    return value;
}

}  // namespace

int num_threads() { return configured_threads().load(std::memory_order_relaxed); }

int resolve_threads(int num_threads) { return num_threads > 0 ? num_threads : qora::num_threads(); }

int64_t EvenBlocks::begin(int64_t i) const { return std::min(rows, ceil_div(rows, tile) * i / count * tile); }

int64_t EvenBlocks::largest() const { return std::min(rows, ceil_div(ceil_div(rows, tile), count) * tile); }

EvenBlocks even_blocks(int64_t rows, int64_t tile, int64_t most, int num_threads, int64_t repeats) {
    const int64_t threads = resolve_threads(num_threads);
    const int64_t count = round_up(ceil_div(rows, most), threads / std::gcd(threads, repeats));
    return {rows, tile, std::min(count, ceil_div(rows, tile))};
}

void set_num_threads(int n) {
    if (n < 1 || n > kMaxThreads)
        throw std::invalid_argument("set_num_threads: expected 1 to " + std::to_string(kMaxThreads) +
                                    ", got " + std::to_string(n));
    configured_threads().store(n, std::memory_order_relaxed);
}

bool uses_openmp() {
#if defined(_OPENMP)
    return true;
#else
    return false;
#endif
}

void parallel_for(int64_t count, int64_t grain, int num_threads,
                  const std::function<void(int64_t, int64_t)>& body) {
    if (count <= 0) return;
    grain = std::max<int64_t>(grain, 1);
    const int64_t ranges = (count + grain - 1) / grain;
    const int team = static_cast<int>(std::min<int64_t>(resolve_threads(num_threads), ranges));
    if (team == 1) {
        for (int64_t begin = 0; begin < count; begin += grain) body(begin, std::min(begin + grain, count));
        return;
    }
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr failure;
    const auto work = [&]() noexcept {
        try {
            for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < ranges;)
                body(i * grain, std::min((i + 1) * grain, count));
        } catch (...) {
            next.store(ranges, std::memory_order_relaxed);
            if (!failed.exchange(true)) failure = std::current_exception();
        }
    };
#if defined(_OPENMP)
#pragma omp parallel num_threads(team)
    work();
#else
    run_with_helpers(team - 1, work);
#endif
    if (failed) std::rethrow_exception(failure);
}

}  // namespace qora
