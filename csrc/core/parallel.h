// Parallel loops. Only parallel.cpp knows which threads run them.
#pragma once

#include <cstdint>
#include <functional>

namespace qora {

// Runs body(begin, end) over ranges that together cover [0, count) once, on at most num_threads threads (0 =
// the process default). Ranges are `grain` long (at least 1) and are handed out dynamically, so a slow core
// does less. The calling thread takes part. The first exception of a body (in practice std::bad_alloc) is
// rethrown here after all threads have stopped.
void parallel_for(int64_t count, int64_t grain, int num_threads,
                  const std::function<void(int64_t begin, int64_t end)>& body);

// Threads that parallel_for uses for num_threads = 0: set_num_threads, else QORA_VISION_NUM_THREADS, else
// OMP_NUM_THREADS, else usable_cpus().
int num_threads();

// The largest number of threads that parallel_for uses for a num_threads argument.
int resolve_threads(int num_threads);
// Rows divided into blocks of whole tiles; the sizes of two blocks differ by at most one tile.
struct EvenBlocks {
    int64_t rows, tile, count;

    // begin(count) equals `rows`.
    int64_t begin(int64_t i) const;
    int64_t largest() const;
};
// The fewest blocks, of about `most` rows at most, that divide evenly among threads if there are `repeats`
// such sets of rows.
EvenBlocks even_blocks(int64_t rows, int64_t tile, int64_t most, int num_threads, int64_t repeats = 1);

// Throws std::invalid_argument unless 1 <= n <= 4096.
void set_num_threads(int n);

// True when the threads are OpenMP's, false when they are those of core/thread_pool.h.
bool uses_openmp();

}  // namespace qora
