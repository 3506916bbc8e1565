// Normalisation of rows.
#pragma once

#include "core/views.h"
#include "kernels/kernel_table.h"

namespace qora {

// Parameters of a norm over the last axis; gamma null means "no norm", beta null an RMS norm.
struct RowNorm {
    const float* gamma = nullptr;
    const float* beta = nullptr;
    float eps = 0.0f;
};

// Each row: (x - mean) / sqrt(var + eps) * gamma + beta, or x / sqrt(mean(x²) + eps) * gamma. Float32, out
// may be x. `op` names the caller in errors.
void normalise(const char* op, const KernelTable& table, const ConstMatrix& x, const RowNorm& norm,
               const Matrix& out, int num_threads);

}  // namespace qora
