// Rotary positions of one head's row.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/kernel_table.h"

namespace qora {
namespace {

template <class V>
void rotate_vector(float* x, const float* cosines, const float* sines) {
    typename V::F even, odd, even_cosine, odd_cosine, even_sine, odd_sine;
    V::load_pairs(x, even, odd);
    V::load_pairs(cosines, even_cosine, odd_cosine);
    V::load_pairs(sines, even_sine, odd_sine);
    V::store_pairs(x, even * even_cosine - odd * even_sine, V::fma(odd, odd_cosine, even * odd_sine));
}

template <class V>
void rotate(float* x, int64_t n, const float* cosines, const float* sines) {
    constexpr int64_t kStep = 2 * V::kWidth;
    int64_t i = 0;
    for (; i + kStep <= n; i += kStep) rotate_vector<V>(x + i, cosines + i, sines + i);
    if (i == n) return;
    float last[3][kStep] = {};
    const auto bytes = static_cast<size_t>(n - i) * sizeof(float);
    std::memcpy(last[0], x + i, bytes);
    std::memcpy(last[1], cosines + i, bytes);
    std::memcpy(last[2], sines + i, bytes);
    rotate_vector<V>(last[0], last[1], last[2]);
    std::memcpy(x + i, last[0], bytes);
}

}  // namespace
}  // namespace qora
