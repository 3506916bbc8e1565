// Multi-head attention over many short sequences, such as a patch's tokens through time.
#pragma once

#include "ops/attention/heads.h"

namespace qora {

// softmax(scale · Q Kᵀ) V for each head, in float32 for every instruction set: at these lengths encoding
// operands costs more than it saves. `out` has the shape of q, is float32, and does not overlap q, k and v;
// `result` is its memory. It is fast while one head's operands fit the caches, that is for up to a few
// hundred tokens; longer sequences are correct too.
void short_attention(const KernelTable& table, const AttentionInputs& inputs, const HeadView& out,
                     uint8_t* result, int num_threads);

}  // namespace qora
