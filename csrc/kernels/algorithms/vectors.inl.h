// Loops over arrays by vectors, one at a time or several together.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/algorithms/tile.inl.h"

namespace qora {
namespace {

// A Vec wrapper of N vectors of V that does each operation on all of them before the next: in a chain such as
// a GELU, a single vector waits for its own results, and a CPU looks ahead by too few instructions to fill
// the time with the following vectors.
template <class V, int N>
struct Wide {
    static constexpr int kWidth = N * V::kWidth;
    struct F {
        typename V::F v[N];
        friend F operator+(F a, F b) {
            return each<F>([&](int i) { return a.v[i] + b.v[i]; });
        }
        friend F operator-(F a, F b) {
            return each<F>([&](int i) { return a.v[i] - b.v[i]; });
        }
        friend F operator*(F a, F b) {
            return each<F>([&](int i) { return a.v[i] * b.v[i]; });
        }
    };
    struct I {
        typename V::I v[N];
        friend I operator+(I a, I b) {
            return each<I>([&](int i) { return a.v[i] + b.v[i]; });
        }
    };

    template <class Result, class Op>
    static Result each(Op op) {
        Result y;
        QORA_UNROLL
        for (int i = 0; i < N; ++i) y.v[i] = op(i);
        return y;
    }
    template <class Op>
    static void each_at(Op op) {
        QORA_UNROLL
        for (int i = 0; i < N; ++i) op(i, i * V::kWidth);
    }
    template <class Op>
    static auto folded(F a, Op op) {
        auto y = a.v[0];
        QORA_UNROLL
        for (int i = 1; i < N; ++i) y = op(a.v[i], y);
        return y;
    }

    // clang-format off
    static F all(typename V::F x) { return each<F>([&](int) { return x; }); }
    static F set(float x) { return all(V::set(x)); }
    static F load(const float* p) { return each<F>([&](int i) { return V::load(p + i * V::kWidth); }); }
    static F load_n(const float* p, int n, float fill) {
        return each<F>([&](int i) {
            const int rest = n - i * V::kWidth;
            return V::load_n(p + i * V::kWidth, rest < 0 ? 0 : rest < V::kWidth ? rest : V::kWidth, fill);
        });
    }
    static void store(float* p, F x) { each_at([&](int i, int at) { V::store(p + at, x.v[i]); }); }
    static F fma(F a, F b, F c) { return each<F>([&](int i) { return V::fma(a.v[i], b.v[i], c.v[i]); }); }
    static F max(F a, F b) { return each<F>([&](int i) { return V::max(a.v[i], b.v[i]); }); }
    static F min(F a, F b) { return each<F>([&](int i) { return V::min(a.v[i], b.v[i]); }); }
    static F abs(F a) { return each<F>([&](int i) { return V::abs(a.v[i]); }); }
    static F sqrt(F a) { return each<F>([&](int i) { return V::sqrt(a.v[i]); }); }
    static F reciprocal(F a) { return each<F>([&](int i) { return V::reciprocal(a.v[i]); }); }
    static F round(F a) { return each<F>([&](int i) { return V::round(a.v[i]); }); }
    static F scale_by_power(F x, F n) {
        return each<F>([&](int i) { return V::scale_by_power(x.v[i], n.v[i]); });
    }
    static float sum(F a) { return V::sum(folded(a, [](auto x, auto y) { return x + y; })); }
    static float max_lane(F a) { return V::max_lane(folded(a, V::max)); }
    static float min_lane(F a) { return V::min_lane(folded(a, V::min)); }

    static I load_i(const int32_t* p) { return each<I>([&](int i) { return V::load_i(p + i * V::kWidth); }); }
    static F to_float(I a) { return each<F>([&](int i) { return V::to_float(a.v[i]); }); }
    static I to_int(F a) { return each<I>([&](int i) { return V::to_int(a.v[i]); }); }
    static void store_bytes(uint8_t* p, I x) { V::store_bytes(p, x.v); }
    static F load_bf16(const uint16_t* p) {
        return each<F>([&](int i) { return V::load_bf16(p + i * V::kWidth); });
    }
    static void store_bf16(uint16_t* p, F x) {
        each_at([&](int i, int at) { V::store_bf16(p + at, x.v[i]); });
    }
    // clang-format on
};

// Two ports with multiply-adds of four cycles could use eight vectors, but eight do not fit the registers.
// The CPU looks far enough ahead for the rest.
template <class V>
using WideOf = Wide<V, 4>;

// The number of valid lanes of a vector: all, as a compile-time constant, or an `int` for the last vector.
template <class W>
using AllLanes = std::integral_constant<int, W::kWidth>;

// Calls body(i, lanes) for the vectors of [0, n); lanes < kWidth in the last one if n is not a multiple.
template <class V, class Body>
inline void for_each_vector(int64_t n, Body body) {
    int64_t i = 0;
    for (; i + V::kWidth <= n; i += V::kWidth) body(i, V::kWidth);
    if (i < n) body(i, static_cast<int>(n - i));
}

// Calls body(w, i, lanes) for [0, n) in steps of w's width: w is W while at least its width remains, then V.
template <class V, class W = WideOf<V>, class Body>
QORA_INLINE void for_each_wide(int64_t n, Body body) {
    int64_t i = 0;
    for (; i + W::kWidth <= n; i += W::kWidth) body(W{}, i, AllLanes<W>{});
    for (; i + V::kWidth <= n; i += V::kWidth) body(V{}, i, AllLanes<V>{});
    if (i < n) body(V{}, i, static_cast<int>(n - i));
}

// The part of a Wide accumulator that a body of width W adds to.
template <class W, class Sums>
inline auto& part_of(Sums& sums) {
    if constexpr (sizeof(Sums) == sizeof(typename W::F))
        return sums;
    else
        return sums.v[0];
}

template <class V>
inline typename V::F load_lanes(const float* p, int lanes, float fill = 0.0f) {
    return lanes == V::kWidth ? V::load(p) : V::load_n(p, lanes, fill);
}

template <class W>
inline typename W::F load_lanes(const float* p, AllLanes<W>, float = 0.0f) {
    return W::load(p);
}

template <class V>
inline void store_lanes(float* p, typename V::F x, int lanes) {
    if (lanes == V::kWidth)
        V::store(p, x);
    else
        V::store_n(p, x, lanes);
}

template <class W>
inline void store_lanes(float* p, typename W::F x, AllLanes<W>) {
    W::store(p, x);
}

template <class V>
inline typename V::F load_lanes_bf16(const uint16_t* p, int lanes) {
    return V::load_bf16_n(p, lanes);
}

template <class W>
inline typename W::F load_lanes_bf16(const uint16_t* p, AllLanes<W>) {
    return W::load_bf16(p);
}

template <class V>
inline void store_lanes_bf16(uint16_t* p, typename V::F x, int lanes) {
    V::store_bf16_n(p, x, lanes);
}

template <class W>
inline void store_lanes_bf16(uint16_t* p, typename W::F x, AllLanes<W>) {
    W::store_bf16(p, x);
}

}  // namespace
}  // namespace qora
