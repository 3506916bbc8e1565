// A pool of threads that is kept between calls and shared by all callers.
#pragma once

#include <functional>

namespace qora {

// Runs `work` on the calling thread and on up to `helpers` others, and returns when every thread that began
// it has ended it. `work` must not throw. The caller must be able to do all of the work alone: it does not
// wait for a helper that is busy, or that the system has not scheduled yet. Several threads may call this at
// the same time; they share the pool.
void run_with_helpers(int helpers, const std::function<void()>& work);

}  // namespace qora
