// Arguments of ops on rows: norms, activations and residuals.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <tuple>

#include "bindings/arrays.h"
#include "kernels/kernel_table.h"
#include "ops/norm.h"

namespace qora {

inline Activation parse_activation(const char* op, const std::optional<std::string>& name) {
    if (!name) return Activation::kNone;
    if (*name == "gelu") return Activation::kGelu;
    if (*name == "gelu_tanh") return Activation::kGeluTanh;
    throw std::invalid_argument(std::string(op) + ": unknown activation '" + *name +
                                "'; expected gelu or gelu_tanh");
}

// Gamma, beta (None: an RMS norm) and eps.
using Norm = std::optional<std::tuple<FloatArray, std::optional<FloatArray>, float>>;

inline RowNorm norm_of(const char* op, const Norm& norm, int64_t n) {
    if (!norm) return {};
    const auto& [gamma, beta, eps] = *norm;
    check(eps > 0.0f && std::isfinite(eps), op, "eps must be positive and finite");
    return {vector(op, "gamma", gamma, n), beta ? vector(op, "beta", *beta, n) : nullptr, eps};
}

inline ConstMatrix residual_of(const char* op, const std::optional<py::array>& residual) {
    return residual ? matrix(op, *residual) : ConstMatrix{};
}

}  // namespace qora
