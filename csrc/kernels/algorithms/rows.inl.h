// Row-wise kernels: layer norm, operand encoding, the epilogue of a tile.
#pragma once

#include <math.h>

#include <cstdint>

#include "kernels/algorithms/math.inl.h"
#include "kernels/algorithms/vectors.inl.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

// Rows that are processed together, as many as the registers hold sums for. The mean or the range of a row is
// a chain of a hundred cycles, and a CPU does not look ahead as far as the next row.
template <class V>
constexpr int kRowsTogether = V::kTileVectors < 4 ? 2 : kMaxRowsTogether;
template <class V>
using SumsOf = Wide<V, 2>;

// Calls body(r, i) for kRowsTogether rows at a time, row i at place r. After the end, the last row is
// repeated, so that every row is summed in the same order.
template <class V, class Body>
QORA_INLINE void each_together(int first, int count, Body body) {
    QORA_UNROLL
    for (int r = 0; r < kRowsTogether<V>; ++r) body(r, first + r < count ? first + r : count - 1);
}

template <class V, bool Centred>
void norm_of_rows(const float* const* x, int first, int count, int64_t n, const float* gamma,
                  const float* beta, float eps, float* const* y) {
    constexpr int kRows = kRowsTogether<V>;
    using Sums = SumsOf<V>;
    const float* from[kRows];
    float *to[kRows], mean[kRows], inverse[kRows];
    typename Sums::F sums[kRows];
    each_together<V>(first, count, [&](int r, int i) QORA_INLINE_BODY {
        from[r] = x[i];
        to[r] = y[i];
        mean[r] = 0.0f;
        sums[r] = Sums::set(0.0f);
    });
    if constexpr (Centred) {
        for_each_wide<V, Sums>(n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
            using W = decltype(w);
            QORA_UNROLL
            for (int r = 0; r < kRows; ++r) {
                auto& sum = part_of<W>(sums[r]);
                sum = sum + load_lanes<W>(from[r] + i, lanes);
            }
        });
        QORA_UNROLL
        for (int r = 0; r < kRows; ++r) {
            mean[r] = Sums::sum(sums[r]) / static_cast<float>(n);
            sums[r] = Sums::set(0.0f);
        }
    }
    for_each_wide<V, Sums>(n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
        using W = decltype(w);
        QORA_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const auto d = load_lanes<W>(from[r] + i, lanes, mean[r]) - W::set(mean[r]);
            auto& sum = part_of<W>(sums[r]);
            sum = W::fma(d, d, sum);
        }
    });
    QORA_UNROLL
    for (int r = 0; r < kRows; ++r)
        inverse[r] = 1.0f / sqrtf(Sums::sum(sums[r]) / static_cast<float>(n) + eps);
    for_each_wide<V, Sums>(n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
        using W = decltype(w);
        const auto factor = load_lanes<W>(gamma + i, lanes);
        const auto offset = Centred ? load_lanes<W>(beta + i, lanes) : W::set(0.0f);
        // All rows are read before one is written: two may be the same row, and y may be x.
        typename W::F v[kRows];
        QORA_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const auto d = load_lanes<W>(from[r] + i, lanes) - W::set(mean[r]);
            v[r] = W::fma(d * W::set(inverse[r]), factor, offset);
        }
        QORA_UNROLL
        for (int r = 0; r < kRows; ++r) store_lanes<W>(to[r] + i, v[r], lanes);
    });
}

template <class V>
void norm_rows(const float* const* x, int count, int64_t n, const float* gamma, const float* beta, float eps,
               float* const* y) {
    const auto some = beta != nullptr ? norm_of_rows<V, true> : norm_of_rows<V, false>;
    for (int r = 0; r < count; r += kRowsTogether<V>) some(x, r, count, n, gamma, beta, eps, y);
}

template <class V>
void encode_rows_f32(const float* const* x, int count, int64_t n, int64_t n_padded, void* y,
                     RowScale* scales) {
    auto* out = static_cast<float*>(y);
    for (int r = 0; r < count; ++r, out += n_padded) {
        for_each_vector<V>(n,
                           [&](int64_t i, int lanes) { V::store(out + i, load_lanes<V>(x[r] + i, lanes)); });
        for (int64_t i = (n + V::kWidth - 1) / V::kWidth * V::kWidth; i < n_padded; i += V::kWidth)
            V::store(out + i, V::set(0.0f));
        scales[r] = {1.0f, 0};
    }
}

template <class V>
void encode_rows_bf16(const float* const* x, int count, int64_t n, int64_t n_padded, void* y,
                      RowScale* scales) {
    auto* out = static_cast<uint16_t*>(y);
    for (int r = 0; r < count; ++r, out += n_padded) {
        for_each_vector<V>(
            n, [&](int64_t i, int lanes) { V::store_bf16(out + i, load_lanes<V>(x[r] + i, lanes)); });
        for (int64_t i = (n + V::kWidth - 1) / V::kWidth * V::kWidth; i < n_padded; i += V::kWidth)
            V::store_bf16(out + i, V::set(0.0f));
        scales[r] = {1.0f, 0};
    }
}

// A NaN or infinity in a row would vanish in integers; adding 0 * x to the scale keeps it visible in the
// result.
template <class V>
void encode_rows_i8(const float* const* x, int count, int64_t n, int64_t n_padded, void* y,
                    RowScale* scales) {
    constexpr int kRows = kRowsTogether<V>;
    using Sums = SumsOf<V>;
    for (int first = 0; first < count; first += kRows) {
        const float* from[kRows];
        typename Sums::F lows[kRows], highs[kRows], poisons[kRows];
        each_together<V>(first, count, [&](int r, int i) QORA_INLINE_BODY {
            from[r] = x[i];
            lows[r] = highs[r] = poisons[r] = Sums::set(0.0f);
        });
        for_each_wide<V, Sums>(n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
            using W = decltype(w);
            QORA_UNROLL
            for (int r = 0; r < kRows; ++r) {
                const auto v = load_lanes<W>(from[r] + i, lanes);
                auto &low = part_of<W>(lows[r]), &high = part_of<W>(highs[r]),
                     &poison = part_of<W>(poisons[r]);
                low = W::min(v, low);
                high = W::max(v, high);
                poison = W::fma(v, W::set(0.0f), poison);
            }
        });
        float inverse[kRows], offset[kRows];
        each_together<V>(first, count, [&](int r, int i) QORA_INLINE_BODY {
            const float min = Sums::min_lane(lows[r]), range = Sums::max_lane(highs[r]) - min;
            const float step = range > 1e-30f ? range / 255.0f : 1.0f;
            const auto zero_point =
                V::min_i(V::max_i(V::to_int(V::set(-min / step)), V::set_i(0)), V::set_i(255));
            inverse[r] = 1.0f / step;
            offset[r] = V::first(V::to_float(zero_point)) - V::kI8Offset;
            scales[i] = {step + Sums::sum(poisons[r]), static_cast<int32_t>(offset[r])};
        });
        for (int r = 0; r < kRows && first + r < count; ++r) {
            auto* out = static_cast<uint8_t*>(y) + (first + r) * n_padded;
            for_each_wide<V>(n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
                using W = decltype(w);
                const auto v =
                    W::fma(load_lanes<W>(from[r] + i, lanes), W::set(inverse[r]), W::set(offset[r]));
                W::store_bytes(out + i, W::to_int(v));
            });
            // The weights after n are zero, so these values do not count.
            for (int64_t i = (n + V::kWidth - 1) / V::kWidth * V::kWidth; i < n_padded; i += V::kWidth)
                V::store_bytes(out + i, V::set_i(0));
        }
    }
}

// Sums of bytes are some hundred times coarser than the fitted GELU.
template <class V, Activation Act, bool Integer>
QORA_INLINE typename V::F activated(typename V::F x) {
    if constexpr (Act == Activation::kNone)
        return x;
    else if constexpr (Integer)
        return fitted_gelu<V>(x, Act == Activation::kGelu ? kGeluFit : kGeluTanhFit);
    else if constexpr (Act == Activation::kGelu)
        return gelu<V>(x);
    else
        return gelu_tanh<V>(x);
}

// Columns are the outer loop, so that their scales and biases stay in registers for all rows.
template <class V, bool Integer, Activation Act>
void epilogue_rows(const EpilogueArgs& e) {
    // Accumulators, scales, sums and bias are padded to whole vectors; residual and out are the caller's.
    for_each_wide<V>(e.cols, [e](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
        using W = decltype(w);
        const auto* acc = static_cast<const uint8_t*>(e.acc) + i * 4;
        const auto bias = W::load(e.bias + i);
        [[maybe_unused]] typename W::F col_scale, col_sum;
        if constexpr (Integer) {
            col_scale = W::load(e.col_scale + i);
            col_sum = W::load(e.col_sum + i);
        }
        const float* residual = e.residual ? e.residual + i : nullptr;
        auto* out_f32 = static_cast<float*>(e.out) + i;
        auto* out_bf16 = static_cast<uint16_t*>(e.out) + i;
        for (int r = 0; r < e.rows; ++r) {
            typename W::F v;
            if constexpr (Integer) {
                const auto& row = e.row_scale[r];
                const auto sum = W::to_float(W::load_i(reinterpret_cast<const int32_t*>(acc)));
                v = W::fma(W::set(-static_cast<float>(row.zero_point)), col_sum, sum);
                v = W::fma(v * W::set(row.scale), col_scale, bias);
            } else {
                v = W::load(reinterpret_cast<const float*>(acc)) + bias;
            }
            v = activated<W, Act, Integer>(v);
            if (residual) {
                v = v + load_lanes<W>(residual, lanes);
                residual += e.residual_stride;
            }
            if (e.out_bf16)
                store_lanes_bf16<W>(out_bf16, v, lanes);
            else
                store_lanes<W>(out_f32, v, lanes);
            acc += e.acc_stride * 4;
            out_f32 += e.out_stride;
            out_bf16 += e.out_stride;
        }
    });
}

template <class V, bool Integer>
void epilogue_activation(const EpilogueArgs& e) {
    switch (e.activation) {
        case Activation::kNone: return epilogue_rows<V, Integer, Activation::kNone>(e);
        case Activation::kGelu: return epilogue_rows<V, Integer, Activation::kGelu>(e);
        case Activation::kGeluTanh: return epilogue_rows<V, Integer, Activation::kGeluTanh>(e);
    }
}

template <class V>
void epilogue(const EpilogueArgs& e) {
    if (e.integer)
        epilogue_activation<V, true>(e);
    else
        epilogue_activation<V, false>(e);
}

template <class V>
void bf16_to_f32(const uint16_t* x, int64_t n, float* y) {
    for_each_wide<V>(n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
        using W = decltype(w);
        store_lanes<W>(y + i, load_lanes_bf16<W>(x + i, lanes), lanes);
    });
}

template <class V>
void scale_row(const float* x, const float* factors, float factor, const float* offsets, int64_t n, void* y,
               bool out_bf16) {
    for_each_wide<V>(n, [&](auto w, int64_t i, auto lanes) QORA_INLINE_BODY {
        using W = decltype(w);
        const auto f = load_lanes<W>(factors + i, lanes) * W::set(factor);
        const auto v = W::fma(load_lanes<W>(x + i, lanes), f, load_lanes<W>(offsets + i, lanes));
        if (out_bf16)
            store_lanes_bf16<W>(static_cast<uint16_t*>(y) + i, v, lanes);
        else
            store_lanes<W>(static_cast<float*>(y) + i, v, lanes);
    });
}

}  // namespace
}  // namespace qora
