// Threads. The only place of the engine that knows what they are made of.
#pragma once

#include <cstdint>
#include <functional>

namespace qora {

// Runs body(begin, end) over ranges that together cover [0, count) once, on at most num_threads threads
// (0 = the process default). Ranges are `grain` long (at least 1) and are handed out dynamically, so a
// slow core does less. The calling thread takes part. The first exception of a body (memory, in practice) is
// rethrown here after all threads have stopped.
void parallel_for(int64_t count, int64_t grain, int num_threads,
                  const std::function<void(int64_t begin, int64_t end)>& body);

// Threads that parallel_for uses for num_threads = 0: set_num_threads, else QORA_VISION_NUM_THREADS, else
// OMP_NUM_THREADS, else the CPUs this process may run on.
int num_threads();

// Threads that parallel_for uses at most for a num_threads argument.
int resolve_threads(int num_threads);
// Rows in blocks of whole tiles, of which one has at most one tile more than another.
struct EvenBlocks {
    int64_t rows, tile, count;

    // begin(count) is `rows`.
    int64_t begin(int64_t i) const;
    int64_t largest() const;
};
// As few blocks of about `most` rows at most as share `repeats` such sets of rows out evenly among threads.
EvenBlocks even_blocks(int64_t rows, int64_t tile, int64_t most, int num_threads, int64_t repeats = 1);

// Throws std::invalid_argument unless 1 <= n <= 4096.
void set_num_threads(int n);

// True when the threads are OpenMP's, false when they are those of core/thread_pool.h.
bool uses_openmp();

}  // namespace qora
