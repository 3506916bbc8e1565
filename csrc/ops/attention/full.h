// Multi-head attention: softmax(scale · Q Kᵀ) V, streamed over blocks of keys.
#pragma once

#include "ops/attention/heads.h"

namespace qora {

// All keys and values are packed before the first row of out is written. So out may overlap them, but not q.
// out: (batch * q.rows, heads * head_dim) float32 or bf16. `family` is the operand type of both products:
// f32, bf16, i16 or i8. The score matrix is never stored: each thread keeps a block of it.
void attention(const KernelTable& table, Family family, const AttentionInputs& inputs, const Matrix& out,
               int num_threads);

}  // namespace qora
