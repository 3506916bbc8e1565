// Multi-head attention over many short sequences, such as a patch's tokens through time.
#pragma once

#include "ops/attention/heads.h"

namespace qora {

// softmax(scale · Q Kᵀ) V for each head, in float32 whatever the instruction set: at these lengths encoding
// operands costs more than it saves. `out` is shaped like q, float32, and lies apart from q, k and v;
// `result` is its memory. Nothing but the whole of one head's operands must fit the caches, so this is for
// sequences of up to a few hundred tokens; there is no upper limit.
void short_attention(const KernelTable& table, const AttentionInputs& inputs, const HeadView& out,
                     uint8_t* result, int num_threads);

}  // namespace qora
