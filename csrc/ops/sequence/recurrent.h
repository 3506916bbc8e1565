// Mixing over time, frame after frame: a causal convolution and a gated linear recurrence.
#pragma once

#include "core/views.h"
#include "kernels/kernel_table.h"

namespace qora {

// Rows of all matrices here are frames * tokens, a frame's tokens together; every token has a history of its
// own.

// out[t] = bias + sum over s of weight[s] * x[t - taps + 1 + s], channel by channel: the last tap is the
// present. `history` (contiguous, (taps - 1) * tokens rows, oldest frame first) stands for what came before x
// and is moved on to the end of it. `out` must not overlap x.
void causal_conv(const KernelTable& table, const ConstMatrix& x, const float* weight, int64_t taps,
                 const float* bias, const Matrix& history, const Matrix& out, int num_threads);

// What the RG-LRU reads (kernel_table.h, RecurrenceArgs), frames * tokens rows each.
struct GatedInputs {
    ConstMatrix x, input_gate, decay_gate;
    const float* decay;
    ConstMatrix branch;
    bool fresh;  // the first frame of x begins a sequence
};

// The RG-LRU over the frames of x. `state` (tokens rows) is what was before x and is moved on to the end of
// it. out may be x.
void gated_recurrence(const KernelTable& table, const GatedInputs& inputs, const Matrix& state,
                      const Matrix& out, int num_threads);

}  // namespace qora
