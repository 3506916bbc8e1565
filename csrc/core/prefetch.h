// Prefetching of memory. These are hints, which change no result; compilers without them produce slower code.
#pragma once

#include <cstdint>

namespace qora {

// Prefetch a line that will be read, to the L2 cache and beyond.
inline void prefetch_line(const uint8_t* at) {
#if defined(__GNUC__)
    __builtin_prefetch(at, 0, 2);
#else
    static_cast<void>(at);
#endif
}

inline void prefetch(const uint8_t* begin, const uint8_t* end) {
    for (; begin < end; begin += 64) prefetch_line(begin);
}

// Prefetch a line that will be written.
inline void prefetch_write(const uint8_t* begin, const uint8_t* end) {
#if defined(__GNUC__)
    for (; begin < end; begin += 64) __builtin_prefetch(begin, 1, 3);
#else
    static_cast<void>(begin), static_cast<void>(end);
#endif
}

}  // namespace qora
