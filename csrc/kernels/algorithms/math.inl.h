// Elementary functions over a Vec wrapper V.
#pragma once

#include "kernels/algorithms/tile.inl.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

// 2^x for -64 <= x <= 126, and 2^-64 below. Relative to a weight of 1, 2^-64 is below the rounding of
// float32. Smaller results would become denormal numbers, which slow every operation on them a hundredfold.
// The polynomial is a minimax fit of 2^f on [-1/2, 1/2] by relative error: 1e-7, float32's own rounding.
template <class V>
QORA_INLINE typename V::F exp2_remainder(typename V::F f) {  // (2^f - 1) / f
    auto p = V::fma(V::set(1.534581243e-04f), f, V::set(1.339993090e-03f));
    p = V::fma(p, f, V::set(9.618489072e-03f));
    p = V::fma(p, f, V::set(5.550328642e-02f));
    p = V::fma(p, f, V::set(2.402264625e-01f));
    return V::fma(p, f, V::set(6.931471825e-01f));
}

template <class V>
QORA_INLINE typename V::F exp2(typename V::F x) {
    x = V::max(V::set(-64.0f), x);  // a maximum returns its second operand if that is NaN
    const auto n = V::round(x);
    const auto f = x - n;
    return V::scale_by_power(V::fma(exp2_remainder<V>(f), f, V::set(1.0f)), n);
}

// 1 - 2^x for x <= 0 without cancellation near 0: (1 - 2^n) - 2^n (2^f - 1), and 2^n = 1 there.
template <class V>
QORA_INLINE typename V::F one_minus_exp2(typename V::F x) {
    x = V::max(V::set(-64.0f), x);
    const auto n = V::round(x);
    const auto f = x - n;
    const auto power = V::scale_by_power(V::set(1.0f), n);
    const auto part = exp2_remainder<V>(f) * f * power;
    return V::set(1.0f) - power - part;
}

// Beyond 2^64 the result is 0 or 1 for float32, and a reciprocal would be denormal, which is slow.
template <class V>
QORA_INLINE typename V::F sigmoid(typename V::F x) {
    const auto e = exp2<V>(V::min(V::set(64.0f), x * V::set(-kLog2E)));
    return V::reciprocal(e + V::set(1.0f));
}

// One * 2^-d for words d >= 0 that count steps of 2^-Bits octaves, rounded; zero from sixteen octaves on. The
// computation is in fixed point: d = n + u with n the nearest integer and u in [-1/2, 1/2), the polynomial of
// degree 3 in units of 2^(P - 15), and a rounding product with 2^(P - n). Before the last rounding, the
// relative error is 1.6e-4 (words of i16) or 3e-4 (bytes of i8), found by trying all words.
template <class V, int Bits, int One, int P>
QORA_INLINE typename V::W exp2_steps(typename V::W d) {
    constexpr double kUnit = One * (1 << (15 - P));
    static_assert(kUnit * 1.41422 < 32768, "the polynomial overflows");
    constexpr auto coefficient = [](double c) {
        return static_cast<int16_t>(c * kUnit + (c < 0 ? -0.5 : 0.5));
    };
    const auto n = V::mul_w(d, V::set_w(1 << (15 - Bits)));
    const auto u = V::template shift_left_w<16 - Bits>(d);  // values above 1/2 wrap around
    auto p = V::add_w(V::mul_w(u, V::set_w(coefficient(-0.0069061))), V::set_w(coefficient(0.0606008)));
    p = V::add_w(V::mul_w(p, u), V::set_w(coefficient(-0.3466419)));
    p = V::add_w(V::mul_w(p, u), V::set_w(static_cast<int16_t>(kUnit - 1)));
    return V::mul_w(p, V::template power_w<P>(n));
}

// 2^-e as bf16 for words that count e + 1/2 in steps of 2^-kBf16ScoreBits octaves. The exponent and the
// mantissa of a float form one fixed-point number. For n + f octaves it is n + (2^f - 1): the distance itself
// plus 2^f - 1 - f, which is a polynomial of the fraction of the word. Here the unit is a step, an eighth of
// the last place of a bf16. The coefficients, in steps, were found by trying all integers near the best real
// ones. The relative error is 4.4e-3 at most and 1.68e-3 root mean square; rounding to bf16 alone has 3.8e-3
// and 1.66e-3.
template <class V>
QORA_INLINE typename V::W exp2_bf16(typename V::W w) {
    constexpr int16_t kHalf = 1 << (kBf16ScoreBits - 1), kRounding = 4, kOne = 0x3f80;
    const auto f = V::template shift_left_w<16 - kBf16ScoreBits>(w);
    auto p = V::add_w(V::mul_w(f, V::set_w(-8)), V::set_w(87));
    p = V::add_w(V::mul_w(p, f), V::set_w(9));
    p = V::add_w(V::mul_w(p, f), V::set_w(-88 + kHalf + kRounding));
    return V::add_w(V::template shift_right_w<3>(V::sub_w(p, w)), V::set_w(kOne));
}

// x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form of GELU, Hendrycks & Gimpel 2016,
// section 2.
template <class V>
QORA_INLINE typename V::F gelu_tanh(typename V::F x) {
    constexpr float c = -2.0f * 0.797884560802865f * kLog2E;
    const auto inner = V::fma(x * x * V::set(0.044715f * c), x, x * V::set(c));
    // Beyond 2^64 the sigmoid is 0 or 1 for float32, and its reciprocal would be denormal, which is slow.
    const auto e = exp2<V>(V::min(V::set(64.0f), inner));
    return x * V::reciprocal(e + V::set(1.0f));
}

// erf(x) = x P(x^2) / Q(x^2) on [-4, 4], constant beyond: absolute error 4.2e-7 in float32 arithmetic. The
// coefficients are those of Eigen's float32 erf.
template <class V>
QORA_INLINE typename V::F erf(typename V::F x) {
    x = V::max(V::set(-4.0f), V::min(V::set(4.0f), x));
    const auto s = x * x;
    auto p = V::fma(V::set(-2.72614225801306e-10f), s, V::set(2.77068142495902e-08f));
    p = V::fma(p, s, V::set(-2.10102402082508e-06f));
    p = V::fma(p, s, V::set(-5.69250639462346e-05f));
    p = V::fma(p, s, V::set(-7.34990630326855e-04f));
    p = V::fma(p, s, V::set(-2.95459980854025e-03f));
    p = V::fma(p, s, V::set(-1.60960333262415e-02f));
    auto q = V::fma(V::set(-1.45660718464996e-05f), s, V::set(-2.13374055278905e-04f));
    q = V::fma(q, s, V::set(-1.68282697438203e-03f));
    q = V::fma(q, s, V::set(-7.37332916720468e-03f));
    q = V::fma(q, s, V::set(-1.42647390514189e-02f));
    return x * p * V::reciprocal(q);
}

// x/2 (1 + erf(x / sqrt 2)): GELU by its definition.
template <class V>
QORA_INLINE typename V::F gelu(typename V::F x) {
    const auto half = x * V::set(0.5f);
    return V::fma(half, erf<V>(x * V::set(0.707106781186548f)), half);
}

// GELU as x (1/2 + c P(c²)), with c = x clamped to the interval beyond which GELU is x or zero. The absolute
// error is 8.2e-5 on [-12, 12], and 1.4e-6 |x| beyond. P is a minimax fit of the absolute error, highest
// power first.
struct GeluFit {
    float limit;
    float p[8];
};
constexpr GeluFit kGeluFit = {4.2f,
                              {-9.018168434e-10f, 7.941761027e-08f, -3.038044042e-06f, 6.689223665e-05f,
                               -9.506689967e-04f, 9.298274294e-03f, -6.552828848e-02f, 3.984659314e-01f}};
constexpr GeluFit kGeluTanhFit = {4.1f,
                                  {-1.172345776e-09f, 9.776735510e-08f, -3.544182618e-06f, 7.414190623e-05f,
                                   -1.007287530e-03f, 9.524364024e-03f, -6.587929279e-02f, 3.984942436e-01f}};

template <class V>
QORA_INLINE typename V::F fitted_gelu(typename V::F x, const GeluFit& fit) {
    // A maximum and a minimum return their second operand if that is NaN.
    const auto c = V::min(V::set(fit.limit), V::max(V::set(-fit.limit), x));
    const auto s = c * c;
    auto p = V::set(fit.p[0]);
    QORA_UNROLL
    for (int i = 1; i < 8; ++i) p = V::fma(p, s, V::set(fit.p[i]));
    return x * V::fma(c, p, V::set(0.5f));
}

}  // namespace
}  // namespace qora
