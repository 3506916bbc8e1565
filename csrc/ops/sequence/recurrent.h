// Ops over time, frame by frame: a causal convolution and a gated linear recurrence.
#pragma once

#include "core/views.h"
#include "kernels/kernel_table.h"

namespace qora {

// All matrices here have frames * tokens rows, the tokens of a frame together. Every token has its own
// history.

// out[t] = bias + sum over s of weight[s] * x[t - taps + 1 + s], channel by channel: the last tap is the
// current frame. `history` (contiguous, (taps - 1) * tokens rows, oldest frame first) holds the frames before
// x; it is replaced with the last frames of x. `out` must not overlap x.
void causal_conv(const KernelTable& table, const ConstMatrix& x, const float* weight, int64_t taps,
                 const float* bias, const Matrix& history, const Matrix& out, int num_threads);

// The inputs of the RG-LRU (kernel_table.h, RecurrenceArgs), frames * tokens rows each.
struct GatedInputs {
    ConstMatrix x, input_gate, decay_gate;
    const float* decay;
    ConstMatrix branch;
    bool fresh;  // the first frame of x begins a sequence
};

// The RG-LRU over the frames of x. `state` (tokens rows) is the state before x; it is replaced with the state
// after x. out may be x.
void gated_recurrence(const KernelTable& table, const GatedInputs& inputs, const Matrix& state,
                      const Matrix& out, int num_threads);

}  // namespace qora
