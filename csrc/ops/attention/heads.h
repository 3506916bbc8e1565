// Heads of attention in the caller's memory: rows of values inside larger activations.
#pragma once

#include "core/views.h"
#include "kernels/kernel_table.h"

namespace qora {

// Rows of one head, whose values are contiguous: every `stride` elements, or in any order.
template <class Byte>
struct BasicHeadRows {
    Byte* data;
    DType dtype;
    int64_t stride, count;
    const int64_t* order = nullptr;  // [count]: row i is row order[i] of memory; null = in order

    Byte* at(int64_t i) const {
        const int64_t offset = (order == nullptr ? i : order[i]) * stride;
        return data + offset * static_cast<int64_t>(dtype_size(dtype));
    }
};
using HeadRows = BasicHeadRows<const uint8_t>;
using HeadResult = BasicHeadRows<uint8_t>;

// Row r as float32: the row itself, or a copy in `buffer`.
inline const float* float_row(const KernelTable& table, const HeadRows& rows, int64_t head_dim, int64_t r,
                              float* buffer) {
    const uint8_t* at = rows.at(r);
    if (rows.dtype == DType::kF32) return reinterpret_cast<const float*>(at);
    table.bf16_to_f32(reinterpret_cast<const uint16_t*>(at), head_dim, buffer);
    return buffer;
}

// Heads inside rows of a larger activation, such as one third of a fused QKV buffer. Strides are in elements;
// the head_dim values of a head are contiguous.
struct HeadView {
    const uint8_t* data = nullptr;
    DType dtype = DType::kF32;
    int64_t batch = 0, rows = 0, heads = 0, head_dim = 0;
    int64_t batch_stride = 0, row_stride = 0, head_stride = 0;

    const uint8_t* at(int64_t b, int64_t head, int64_t row) const {
        return data + static_cast<size_t>(b * batch_stride + head * head_stride + row * row_stride) *
                          dtype_size(dtype);
    }
    HeadRows head_rows(int64_t b, int64_t head) const { return {at(b, head, 0), dtype, row_stride, rows}; }
};

// The operands of attention. `scale` is the factor of a score.
struct AttentionInputs {
    HeadView q, k, v;
    float scale;
};

// Throws std::invalid_argument unless there is at least one query, key and head, the shapes of q, k and v
// match, and the scale is positive and finite. `op` names the caller.
void check_heads(const char* op, const AttentionInputs& inputs);

// Likewise unless heads are small enough for streaming attention.
void check_streamed_heads(const char* op, const AttentionInputs& inputs);

}  // namespace qora
