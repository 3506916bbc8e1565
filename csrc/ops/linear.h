// Linear layers: y = act(norm(x) Wᵀ + b) + residual, and two of them as an MLP.
#pragma once

#include "core/views.h"
#include "ops/norm.h"
#include "ops/pack.h"

namespace qora {

// Where the rows of a GEMM's left operand come from.
class RowSource {
  public:
    virtual ~RowSource() = default;
    virtual int64_t rows() const = 0;
    virtual int64_t cols() const = 0;
    // Row i as cols() float32 values: its own memory, or `scratch` (room for cols()) filled.
    virtual const float* row(const KernelTable& table, int64_t i, float* scratch) const = 0;
};

// The rows of a matrix, float32 or bf16.
class MatrixRows final : public RowSource {
  public:
    explicit MatrixRows(const ConstMatrix& matrix) : matrix_(matrix) {}
    int64_t rows() const override { return matrix_.rows; }
    int64_t cols() const override { return matrix_.cols; }
    const float* row(const KernelTable& table, int64_t i, float* scratch) const override;

  private:
    ConstMatrix matrix_;
};

// The tubelets of a clip: non-overlapping (t, h, w) blocks of a contiguous (T, C, H, W) float32 array, each
// flattened with the channel slowest, then t, row, column; ordered by time, row, column. What does not fill a
// tubelet is dropped.
class TubeletRows final : public RowSource {
  public:
    struct Shape {
        int64_t frames, channels, height, width;
    };
    struct Tubelet {
        int64_t frames, height, width;
    };
    TubeletRows(const float* clip, Shape shape, Tubelet tubelet);
    int64_t rows() const override { return grid_t_ * grid_h_ * grid_w_; }
    int64_t cols() const override {
        return shape_.channels * tubelet_.frames * tubelet_.height * tubelet_.width;
    }
    const float* row(const KernelTable& table, int64_t i, float* scratch) const override;

  private:
    const float* clip_;
    Shape shape_;
    Tubelet tubelet_;
    int64_t grid_t_, grid_h_, grid_w_;
};

// What happens to a tile of results before it is stored.
struct Epilogue {
    Activation activation = Activation::kNone;
    ConstMatrix residual;  // float32, added after the activation; empty = none
};

// out (float32 or bf16) must not overlap the rows of x; the residual may be `out`.
// `op` names the caller in errors.
void linear(const char* op, const RowSource& x, const RowNorm& norm, const PackedLinear& weight,
            const Epilogue& epilogue, const Matrix& out, int num_threads);

// out = act(norm(x) W1ᵀ + b1) W2ᵀ + b2 + residual, block by block: the hidden layer is never stored whole.
// out may be x and the residual.
void mlp(const RowSource& x, const RowNorm& norm, const PackedLinear& fc1, Activation activation,
         const PackedLinear& fc2, const ConstMatrix& residual, const Matrix& out, int num_threads);

}  // namespace qora
