// Row kernels that make operands of attention from the rows of heads.
#pragma once

#include <math.h>

#include <cstdint>

#include "kernels/algorithms/vectors.inl.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

template <class V>
void transpose(const uint8_t* const* rows, int count, int64_t steps, uint8_t* panel, int64_t nr) {
    constexpr int kWidth = V::kWidth;
    const auto at = [&](int row, int64_t step) {
        return reinterpret_cast<const int32_t*>(rows[row] + step * 4);
    };
    auto* to = reinterpret_cast<int32_t*>(panel);
    int row = 0;
    for (; row + kWidth <= count; row += kWidth) {
        int64_t step = 0;
        for (; step + kWidth <= steps; step += kWidth) {
            typename V::I block[kWidth];
            QORA_UNROLL
            for (int i = 0; i < kWidth; ++i) block[i] = V::load_i(at(row + i, step));
            V::transpose(block);
            QORA_UNROLL
            for (int i = 0; i < kWidth; ++i) V::store_i(to + (step + i) * nr + row, block[i]);
        }
        for (; step < steps; ++step)
            for (int i = row; i < row + kWidth; ++i) to[step * nr + i] = *at(i, step);
    }
    for (; row < count; ++row)
        for (int64_t step = 0; step < steps; ++step) to[step * nr + row] = *at(row, step);
}

// Sums of squares of Rows rows times `scale`, computed together, because each is a chain of dependent
// additions.
template <class V, int Rows>
inline void sums_of_squares(const float* const* rows, int64_t n, float scale, float* y) {
    typename V::F squares[Rows];
    for (int r = 0; r < Rows; ++r) squares[r] = V::set(0.0f);
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        QORA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            const auto v = load_lanes<V>(rows[r] + i, lanes) * V::set(scale);
            squares[r] = V::fma(v, v, squares[r]);
        }
    });
    for (int r = 0; r < Rows; ++r) y[r] = V::sum(squares[r]);
}

template <class V>
void norms(const float* const* rows, int count, int64_t n, float* y) {
    int first = 0;
    for (; first + kMaxRowsTogether <= count; first += kMaxRowsTogether)
        sums_of_squares<V, kMaxRowsTogether>(rows + first, n, 1.0f, y + first);
    for (; first < count; ++first) sums_of_squares<V, 1>(rows + first, n, 1.0f, y + first);
    for_each_vector<V>(count, [&](int64_t r, int lanes) {
        store_lanes<V>(y + r, V::sqrt(load_lanes<V>(y + r, lanes)), lanes);
    });
    // Repeat with another scale if squares overflowed or underflowed.
    for (int r = 0; r < count; ++r) {
        if (y[r] > 1e-15f && y[r] < 1e18f) continue;
        const float scale = y[r] < 1.0f ? 0x1p60f : 0x1p-80f;
        sums_of_squares<V, 1>(rows + r, n, scale, y + r);
        y[r] = sqrtf(y[r]) / scale;
    }
}

// A NaN stays: the maximum keeps its second operand, and 0 * x is NaN if x is not finite.
template <class V>
void largest(const float* const* rows, int count, int64_t n, float* y) {
    for (int r = 0; r < count; ++r) {
        auto high = V::set(0.0f), zeros = V::set(0.0f);
        for_each_vector<V>(n, [&](int64_t i, int lanes) {
            const auto v = load_lanes<V>(rows[r] + i, lanes);
            high = V::max(V::abs(v), high);
            zeros = V::fma(v, V::set(0.0f), zeros);
        });
        y[r] = V::max_lane(high) + V::sum(zeros);
    }
}

template <class V>
void ranges(const float* const* rows, int count, int64_t n, float* low, float* high) {
    for_each_wide<V>(n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
        using W = decltype(w);
        auto lowest = load_lanes<W>(low + i, lanes), highest = load_lanes<W>(high + i, lanes);
        auto zeros = W::set(0.0f);
        for (int r = 0; r < count; ++r) {
            const auto v = load_lanes<W>(rows[r] + i, lanes);
            lowest = W::min(v, lowest);
            highest = W::max(v, highest);
            zeros = W::fma(v, W::set(0.0f), zeros);
        }
        store_lanes<W>(low + i, lowest + zeros, lanes);
        store_lanes<W>(high + i, highest + zeros, lanes);
    });
}

template <class V>
void scale_to_i16(const float* const* rows, int count, int64_t n, const float* factors, int16_t* y,
                  int64_t stride) {
    for (int r = 0; r < count; ++r) {
        const auto factor = V::set(factors[r]);
        for_each_vector<V>(n, [&](int64_t i, int lanes) {
            const auto q = V::to_int(load_lanes<V>(rows[r] + i, lanes) * factor);
            V::store_i16(y + r * stride + i, q);
        });
    }
}

template <class V>
void scale_to_i8(const float* const* rows, int count, int64_t n, const float* offsets, const float* factors,
                 int8_t* y, int64_t stride, int32_t* sums) {
    for (int r = 0; r < count; ++r) {
        const auto factor = V::set(factors[r]);
        auto sum = V::set_i(0);
        for_each_vector<V>(n, [&](int64_t i, int lanes) {
            const auto x = load_lanes<V>(rows[r] + i, lanes) - load_lanes<V>(offsets + i, lanes);
            // Values that are not finite became INT32_MIN, which would overflow the sum.
            const auto q = V::max_i(V::to_int(x * factor), V::set_i(-128));
            sum = sum + q;
            V::store_signed_bytes(y + r * stride + i, q);
        });
        sums[r] = static_cast<int32_t>(V::sum(V::to_float(sum)));
    }
}

// How the values of a channel become a dword.
template <class V>
struct Bf16Pairs {
    static constexpr int kRows = 2;
    static typename V::I value(typename V::F x, typename V::F, typename V::F) { return V::bf16_words(x); }
    static typename V::I dword(const typename V::I (&x)[2]) { return V::pair_words(x[0], x[1]); }
};
template <class V>
struct I16Pairs {
    static constexpr int kRows = 2;
    static typename V::I value(typename V::F x, typename V::F, typename V::F factor) {
        return V::to_int(x * factor);
    }
    static typename V::I dword(const typename V::I (&x)[2]) { return V::pair_words(x[0], x[1]); }
};
template <class V>
struct I8Quads {
    static constexpr int kRows = 4;
    static typename V::I value(typename V::F x, typename V::F offset, typename V::F factor) {
        return V::to_int((x - offset) * factor);
    }
    static typename V::I dword(const typename V::I (&x)[4]) { return V::quad_bytes(x[0], x[1], x[2], x[3]); }
};

// The PackStepsFn of families with several values to a dword.
template <class V, class Dwords>
void pack_dwords(const float* const* rows, int count, int64_t first, int64_t n, const float* offsets,
                 const float* factors, uint8_t* panel, int64_t nr) {
    for (int r = 0; r < count; r += Dwords::kRows, panel += nr * 4) {
        auto* to = reinterpret_cast<int32_t*>(panel);
        for_each_vector<V>(n, [&](int64_t i, int lanes) {
            const auto offset = load_lanes<V>(offsets + first + i, lanes);
            const auto factor = load_lanes<V>(factors + first + i, lanes);
            typename V::I values[Dwords::kRows];
            QORA_UNROLL
            for (int k = 0; k < Dwords::kRows; ++k)
                values[k] = r + k < count
                                ? Dwords::value(load_lanes<V>(rows[r + k] + first + i, lanes), offset, factor)
                                : V::set_i(0);
            V::store_i(to + i, Dwords::dword(values));
        });
        for (int64_t i = (n + V::kWidth - 1) / V::kWidth * V::kWidth; i < nr; i += V::kWidth)
            V::store_i(to + i, V::set_i(0));
    }
}

template <class V>
void pack_floats(const float* const* rows, int count, int64_t first, int64_t n, const float*, const float*,
                 uint8_t* panel, int64_t nr) {
    for (int r = 0; r < count; ++r, panel += nr * 4) {
        auto* to = reinterpret_cast<float*>(panel);
        for_each_vector<V>(
            n, [&](int64_t i, int lanes) { V::store(to + i, load_lanes<V>(rows[r] + first + i, lanes)); });
        for (int64_t i = (n + V::kWidth - 1) / V::kWidth * V::kWidth; i < nr; i += V::kWidth)
            V::store(to + i, V::set(0.0f));
    }
}

}  // namespace
}  // namespace qora
