#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace qora {
namespace {

// How long a thread spins for work before it sleeps: longer than the time between two ops of a forward pass,
// and shorter than the time slice of another program that needs the core.
constexpr std::chrono::microseconds kSpinTime{50};

// Yields to the other hardware thread of the core, and then to other threads that wait for this core.
void pause() {
    for (int i = 0; i < 32; ++i) {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
        __builtin_ia32_pause();
#elif defined(__GNUC__) && defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
    std::this_thread::yield();
}

template <class Condition>
bool spin_until(const Condition& condition) {
    const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        pause();
    }
    return true;
}

struct Job {
    const std::function<void()>* work;
    int vacancies;  // helpers that may still begin; guarded by the pool's mutex
    std::atomic<int> running{0};
};

class Pool {
  public:
    void run(int helpers, const std::function<void()>& work) {
        Job job{&work, helpers};
        int woken = 0;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            grow(helpers);
            jobs_.push_back(&job);
            vacancies_ += helpers;
            woken = std::min(sleeping_, helpers);
        }
        for (int i = 0; i < woken; ++i) work_exists_.notify_one();
        work();
        withdraw(job);
        const auto done = [&] { return job.running == 0; };
        if (spin_until(done)) return;
        std::unique_lock<std::mutex> lock(mutex_);
        ++waiting_;
        helper_ended_.wait(lock, done);
        --waiting_;
    }

  private:
    // Threads are never joined. They own only their scratch memory, and end with the process.
    void grow(int helpers) {
        try {
            for (; threads_ < helpers; ++threads_) std::thread([this] { serve(); }).detach();
        } catch (const std::system_error&) {
            // The system cannot start more threads: the existing ones and the caller do the work.
        }
    }

    void withdraw(Job& job) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (job.vacancies == 0) return;
        vacancies_ -= job.vacancies;
        jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
    }

    void serve() {
        for (;;) {
            Job* job = take();
            (*job->work)();
            // Once `running` is zero, the caller may return, and the job is destroyed.
            if (--job->running == 0 && waiting_ > 0) {
                const std::lock_guard<std::mutex> lock(mutex_);
                helper_ended_.notify_all();
            }
        }
    }

    Job* take() {
        spin_until([this] { return vacancies_ > 0; });
        std::unique_lock<std::mutex> lock(mutex_);
        ++sleeping_;
        work_exists_.wait(lock, [this] { return vacancies_ > 0; });
        --sleeping_;
        Job* job = jobs_.front();
        ++job->running;
        --vacancies_;
        if (--job->vacancies == 0) jobs_.pop_front();
        return job;
    }

    std::mutex mutex_;
    std::condition_variable work_exists_, helper_ended_;
    std::deque<Job*> jobs_;  // those with vacancies
    int threads_ = 0, sleeping_ = 0;
    // Written under the mutex; spinning threads read it without the mutex.
    std::atomic<int> vacancies_{0};
    std::atomic<int> waiting_{0};
};

std::atomic<Pool*>& instance() {
    static std::atomic<Pool*> pool{new Pool};
    return pool;
}

// The child of a fork has none of its parent's threads. It starts with a new pool, and never frees the memory
// of the parent's pool.
void watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
    static const int registered = pthread_atfork(nullptr, nullptr, [] { instance() = new Pool; });
    static_cast<void>(registered);
#endif
}

}  // namespace

void run_with_helpers(int helpers, const std::function<void()>& work) {
    watch_forks();
    instance().load()->run(helpers, work);
}

}  // namespace qora
