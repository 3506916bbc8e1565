// Layer normalisation.
#pragma once

#include "core/views.h"
#include "kernels/kernel_table.h"

namespace qora {

// Parameters of a layer norm over the last axis; gamma null means "no norm".
struct LayerNorm {
    const float* gamma = nullptr;
    const float* beta = nullptr;
    float eps = 0.0f;
};

// out = (x - mean) / sqrt(var + eps) * gamma + beta for each row; float32, out may be x.
void layer_norm(const KernelTable& table, const ConstMatrix& x, const LayerNorm& norm, const Matrix& out,
                int num_threads);

}  // namespace qora
