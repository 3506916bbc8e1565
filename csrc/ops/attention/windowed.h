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

// What is added to the score of two tokens by how far they lie apart in a window: [rows][heads], see below.
struct OffsetBias {
    const float* values;
    int64_t rows;
};

// softmax(scale · Q Kᵀ + bias + mask) V within each window, for the tokens of a grid in the order time, row,
// column. The windows are those of the grid moved on by `shift`, and wrap around its ends; where tokens from
// both ends meet in a window, the mask is -100 between them. A dimension that is no longer than the window is
// one window, and is not shifted. Where windows do not divide the grid, what is missing at its end is filled:
// q, k and v (batch 1) have one row more than the grid, and the last stands for all of these tokens. They are
// attended to like others.
//
// bias: (2 window_t - 1)(2 window_h - 1)(2 window_w - 1) rows of `heads` values, one row for each offset in
// a whole window, of at most 65536 in magnitude. In a window that a short dimension shrinks, token i has the
// bias of token i of a whole window, as the reference implementations have it: true offsets if time alone is
// short.
//
// out: (tokens, heads * head_dim). `family` as for attention.
void window_attention(const KernelTable& table, Family family, const AttentionInputs& inputs,
                      const Windows& windows, const OffsetBias& bias, const Matrix& out, int num_threads);

}  // namespace qora
