// Threads that are kept between calls and help whoever asks.
#pragma once

#include <functional>

namespace qora {

// Runs `work` on the calling thread and on up to `helpers` others, and returns when all that began it have
// ended it. `work` must not throw, and the caller alone must be able to do all of it: nobody waits for a
// helper that is busy elsewhere, or that the system has not scheduled yet. Callers of several threads share
// the pool.
void run_with_helpers(int helpers, const std::function<void()>& work);

}  // namespace qora
