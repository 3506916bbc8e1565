// Multi-head attention: softmax(scale · Q Kᵀ) V, streamed over blocks of keys.
#pragma once

#include "core/views.h"
#include "kernels/kernel_table.h"

namespace qora {

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
};

// Scores are in units of log2 inside: 2^x is cheaper than e^x.
constexpr float kLog2E = 1.44269504088896f;

// A head's row as float32: its own memory, or `buffer` filled.
inline const float* float_row(const KernelTable& table, const HeadView& view, int64_t b, int64_t head,
                              int64_t row, float* buffer) {
    const uint8_t* at = view.at(b, head, row);
    if (view.dtype == DType::kF32) return reinterpret_cast<const float*>(at);
    table.bf16_to_f32(reinterpret_cast<const uint16_t*>(at), view.head_dim, buffer);
    return buffer;
}

// out: (batch * q.rows, heads * head_dim) float32 or bf16. `family` is the operand type of both products:
// f32, bf16 or i16. The score matrix is never stored: each thread keeps a block of it.
void attention(const KernelTable& table, Family family, const HeadView& q, const HeadView& k,
               const HeadView& v, float scale, const Matrix& out, int num_threads);

}  // namespace qora
