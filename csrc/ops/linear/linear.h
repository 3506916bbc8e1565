// Linear layers: y = act(norm(x) Wᵀ + b) + residual.
#pragma once

#include "ops/linear/row_products.h"

namespace qora {

// out (float32 or bf16) must not overlap the rows of x; the residual may be `out`.
// `op` names the caller in errors.
void linear(const char* op, const RowSource& x, const RowNorm& norm, const PackedLinear& weight,
            const Epilogue& epilogue, const Matrix& out, int num_threads);

}  // namespace qora
