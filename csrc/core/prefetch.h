// Asking for memory before it is needed. Hints: they change no result, and compilers without them lose time.
#pragma once

#include <cstdint>

namespace qora {

// A line of what will be read, to the L2 and on.
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

// What will be written.
inline void prefetch_write(const uint8_t* begin, const uint8_t* end) {
#if defined(__GNUC__)
    for (; begin < end; begin += 64) __builtin_prefetch(begin, 1, 3);
#else
    static_cast<void>(begin), static_cast<void>(end);
#endif
}

}  // namespace qora
