// Macros for inlining and unrolling.
#pragma once

#if defined(_MSC_VER) && !defined(__clang__)
#define QORA_NOINLINE __declspec(noinline)
#define QORA_INLINE __forceinline
#define QORA_INLINE_BODY
#define QORA_UNROLL
#define QORA_UNROLL_TWICE
#elif defined(__clang__)
#define QORA_NOINLINE __attribute__((noinline))
#define QORA_INLINE inline __attribute__((always_inline))
#define QORA_INLINE_BODY __attribute__((always_inline))  // of a lambda
#define QORA_UNROLL _Pragma("clang loop unroll(full)")
#define QORA_UNROLL_TWICE _Pragma("clang loop unroll_count(2)")
#else
#define QORA_NOINLINE __attribute__((noipa))  // no inlining, no cloning for constant arguments
#define QORA_INLINE inline __attribute__((always_inline))
#define QORA_INLINE_BODY __attribute__((always_inline))  // of a lambda
#define QORA_UNROLL _Pragma("GCC unroll 16")
#define QORA_UNROLL_TWICE _Pragma("GCC unroll 2")
#endif
