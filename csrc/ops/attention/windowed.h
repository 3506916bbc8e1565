// Multi-head attention within shifted windows of a grid (Liu et al. 2021, "Swin Transformer"; 2022, "Video
// Swin Transformer").
#pragma once

#include <array>

#include "ops/attention/heads.h"

namespace qora {

// Where windows lie: sizes along time, height and width.
struct Windows {
    using Size = std::array<int64_t, 3>;
    Size grid, window, shift;
};

// The bias of the score of two tokens, which depends on their offset within the window: [rows][heads], see
// below.
struct OffsetBias {
    const float* values;
    int64_t rows;
};

// softmax(scale · Q Kᵀ + bias + mask) V within each window, for the tokens of a grid in the order time, row,
// column. The grid is shifted by `shift` before it is divided into windows, and wraps around at its ends.
// Between tokens from opposite ends in one window the mask is -100. A dimension that is not longer than the
// window is one window, and is not shifted. Where windows do not divide the grid, padding tokens fill its
// end: q, k and v (batch 1) have one row more than the grid, and this last row stands for all padding tokens.
// They are attended to like others.
//
// bias: (2 window_t - 1)(2 window_h - 1)(2 window_w - 1) rows of `heads` values, one row for each offset in a
// whole window, of at most 65536 in magnitude. In a window that a short dimension makes smaller, token i has
// the bias of token i of a whole window, as in the reference implementations. The offsets are right if only
// time is short.
//
// out: (tokens, heads * head_dim). `family` as for attention.
void window_attention(const KernelTable& table, Family family, const AttentionInputs& inputs,
                      const Windows& windows, const OffsetBias& bias, const Matrix& out, int num_threads);

}  // namespace qora
