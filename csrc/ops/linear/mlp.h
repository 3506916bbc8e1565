// Two linear layers with an activation between them.
#pragma once

#include "ops/linear/row_products.h"

namespace qora {

// out = act(norm(x) W1ᵀ + b1) W2ᵀ + b2 + residual, block by block: the hidden layer is never stored whole.
// out may be x and the residual.
void mlp(const RowSource& x, const RowNorm& norm, const PackedLinear& fc1, Activation activation,
         const PackedLinear& fc2, const ConstMatrix& residual, const Matrix& out, int num_threads);

}  // namespace qora
