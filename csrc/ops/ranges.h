// Loops whose bodies call kernels.
#pragma once

#include "core/parallel.h"
#include "kernels/kernel_table.h"

namespace qora {

// Calls the hooks of a table: on construction before this thread calls its kernels, on destruction
// afterwards.
class KernelRange {
  public:
    explicit KernelRange(const KernelTable& table) : leave_(table.leave_range) {
        if (table.enter_range != nullptr) table.enter_range();
    }
    ~KernelRange() {
        if (leave_ != nullptr) leave_();
    }
    KernelRange(const KernelRange&) = delete;
    KernelRange& operator=(const KernelRange&) = delete;

  private:
    void (*leave_)();
};

// parallel_for with each range inside a KernelRange.
template <class Body>
void parallel_ranges(const KernelTable& table, int64_t count, int64_t grain, int num_threads,
                     const Body& body) {
    parallel_for(count, grain, num_threads, [&](int64_t begin, int64_t end) {
        const KernelRange range(table);
        body(begin, end);
    });
}

}  // namespace qora
