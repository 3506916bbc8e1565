// Row-wise kernels: layer norm, operand encoding, the epilogue of a tile.
#pragma once

#include <math.h>

#include <cstdint>

#include "kernels/kernel_table.h"
#include "kernels/math.inl.h"

namespace qora {
namespace {

// Calls body(i, lanes) for the vectors of [0, n); lanes < kWidth in the last one when n is no multiple.
template <class V, class Body>
inline void for_each_vector(int64_t n, Body body) {
    int64_t i = 0;
    for (; i + V::kWidth <= n; i += V::kWidth) body(i, V::kWidth);
    if (i < n) body(i, static_cast<int>(n - i));
}

template <class V>
inline typename V::F load_lanes(const float* p, int lanes, float fill = 0.0f) {
    return lanes == V::kWidth ? V::load(p) : V::load_n(p, lanes, fill);
}

template <class V>
inline void store_lanes(float* p, typename V::F x, int lanes) {
    if (lanes == V::kWidth)
        V::store(p, x);
    else
        V::store_n(p, x, lanes);
}

template <class V>
inline void store_lanes_bf16(uint16_t* p, typename V::F x, int lanes) {
    if (lanes == V::kWidth)
        V::store_bf16(p, x);
    else
        V::store_bf16_n(p, x, lanes);
}

template <class V>
void layer_norm(const float* x, int64_t n, const float* gamma, const float* beta, float eps, float* y) {
    auto total = V::set(0.0f);
    for_each_vector<V>(n, [&](int64_t i, int lanes) { total = V::add(total, load_lanes<V>(x + i, lanes)); });
    const float mean = V::sum(total) / static_cast<float>(n);
    const auto minus_mean = V::set(-mean);

    auto squares = V::set(0.0f);
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        const auto d = V::add(load_lanes<V>(x + i, lanes, mean), minus_mean);
        squares = V::fma(d, d, squares);
    });
    const float variance = V::sum(squares) / static_cast<float>(n);
    const auto inverse = V::set(1.0f / sqrtf(variance + eps));

    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        const auto d = V::mul(V::add(load_lanes<V>(x + i, lanes), minus_mean), inverse);
        store_lanes<V>(y + i, V::fma(d, load_lanes<V>(gamma + i, lanes), load_lanes<V>(beta + i, lanes)),
                       lanes);
    });
}

template <class V>
void encode_row_f32(const float* x, int64_t n, int64_t n_padded, void* y, RowScale* scale) {
    auto* out = static_cast<float*>(y);
    for_each_vector<V>(n, [&](int64_t i, int lanes) { V::store(out + i, load_lanes<V>(x + i, lanes)); });
    for (int64_t i = (n + V::kWidth - 1) / V::kWidth * V::kWidth; i < n_padded; i += V::kWidth)
        V::store(out + i, V::set(0.0f));
    *scale = {1.0f, 0};
}

template <class V>
void encode_row_bf16(const float* x, int64_t n, int64_t n_padded, void* y, RowScale* scale) {
    auto* out = static_cast<uint16_t*>(y);
    for_each_vector<V>(n, [&](int64_t i, int lanes) { V::store_bf16(out + i, load_lanes<V>(x + i, lanes)); });
    for (int64_t i = (n + V::kWidth - 1) / V::kWidth * V::kWidth; i < n_padded; i += V::kWidth)
        V::store_bf16(out + i, V::set(0.0f));
    *scale = {1.0f, 0};
}

// A NaN or infinity in a row would vanish in integers; adding 0 * x to the scale keeps it visible in the
// result.
template <class V>
void encode_row_i8(const float* x, int64_t n, int64_t n_padded, void* y, RowScale* scale) {
    auto low = V::set(0.0f), high = V::set(0.0f), poison = V::set(0.0f);
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        const auto v = load_lanes<V>(x + i, lanes);
        low = V::min(v, low);
        high = V::max(v, high);
        poison = V::fma(v, V::set(0.0f), poison);
    });
    const float min = V::min_lane(low), range = V::max_lane(high) - min;
    const float step = range > 1e-30f ? range / 255.0f : 1.0f;
    const auto inverse = V::set(1.0f / step);
    const auto zero_point = V::min_i(V::max_i(V::to_int(V::set(-min / step)), V::set_i(0)), V::set_i(255));
    const auto offset = V::to_float(zero_point);

    auto* out = static_cast<uint8_t*>(y);
    const auto encode = [&](typename V::F v) {
        const auto q = V::min_i(V::max_i(V::to_int(V::fma(v, inverse, offset)), V::set_i(0)), V::set_i(255));
        return V::sub_i(q, V::set_i(V::kI8Offset));
    };
    for_each_vector<V>(
        n, [&](int64_t i, int lanes) { V::store_u8(out + i, encode(load_lanes<V>(x + i, lanes))); });
    // The weights beyond n are zero, so what stands here does not count.
    for (int64_t i = (n + V::kWidth - 1) / V::kWidth * V::kWidth; i < n_padded; i += V::kWidth)
        V::store_u8(out + i, V::set_i(0));
    scale->scale = step + V::sum(poison);
    scale->zero_point = static_cast<int32_t>(V::first(offset)) - V::kI8Offset;
}

template <class V, bool Integer, Activation Act>
void epilogue_rows(const EpilogueArgs& e) {
    for (int r = 0; r < e.rows; ++r) {
        const auto* floats = static_cast<const float*>(e.acc) + r * e.acc_stride;
        const auto* ints = static_cast<const int32_t*>(e.acc) + r * e.acc_stride;
        const auto row_scale = V::set(Integer ? e.row_scale[r].scale : 1.0f);
        const auto zero_point = V::set_i(Integer ? e.row_scale[r].zero_point : 0);
        const float* residual = e.residual ? e.residual + r * e.residual_stride : nullptr;
        auto* out_f32 = static_cast<float*>(e.out) + r * e.out_stride;
        auto* out_bf16 = static_cast<uint16_t*>(e.out) + r * e.out_stride;

        // Accumulators, scales, sums and bias are padded to whole vectors; residual and out are the caller's.
        for_each_vector<V>(e.cols, [&](int64_t i, int lanes) {
            typename V::F v;
            if constexpr (Integer) {
                const auto sum =
                    V::sub_i(V::load_i(ints + i), V::mul_i(zero_point, V::load_i(e.col_sum + i)));
                v = V::mul(V::to_float(sum), V::mul(row_scale, V::load(e.col_scale + i)));
            } else {
                v = V::load(floats + i);
            }
            if (e.bias) v = V::add(v, V::load(e.bias + i));
            if constexpr (Act == Activation::kGelu) v = gelu<V>(v);
            if constexpr (Act == Activation::kGeluTanh) v = gelu_tanh<V>(v);
            if (residual) v = V::add(v, load_lanes<V>(residual + i, lanes));
            if (e.out_bf16)
                store_lanes_bf16<V>(out_bf16 + i, v, lanes);
            else
                store_lanes<V>(out_f32 + i, v, lanes);
        });
    }
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
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        const auto v = lanes == V::kWidth ? V::load_bf16(x + i) : V::load_bf16_n(x + i, lanes);
        store_lanes<V>(y + i, v, lanes);
    });
}

template <class V>
void scale_row(const float* x, const float* factor, int64_t n, void* y, bool out_bf16) {
    for_each_vector<V>(n, [&](int64_t i, int lanes) {
        const auto v = V::mul(load_lanes<V>(x + i, lanes), load_lanes<V>(factor + i, lanes));
        if (out_bf16)
            store_lanes_bf16<V>(static_cast<uint16_t*>(y) + i, v, lanes);
        else
            store_lanes<V>(static_cast<float*>(y) + i, v, lanes);
    });
}

}  // namespace
}  // namespace qora
