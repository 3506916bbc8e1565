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

// The RG-LRU over the frames of x (kernel_table.h, RecurrenceArgs). `state` (tokens rows) is what was before
// x and is moved on to the end of it; with `fresh` the first frame of x begins a sequence. out may be x.
void gated_recurrence(const KernelTable& table, const ConstMatrix& x, const ConstMatrix& input_gate,
                      const ConstMatrix& decay_gate, const float* decay, const ConstMatrix& branch,
                      bool fresh, const Matrix& state, const Matrix& out, int num_threads);

}  // namespace qora
