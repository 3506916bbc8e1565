// Row sources: the rows of a linear layer's input.
#pragma once

#include "core/views.h"
#include "kernels/kernel_table.h"

namespace qora {

// A source of the rows of a matrix product's left operand.
class RowSource {
  public:
    virtual ~RowSource() = default;
    virtual int64_t rows() const = 0;
    virtual int64_t cols() const = 0;
    // Row i as cols() float32 values: the row itself, or a copy in `scratch`, which holds cols() values.
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
// flattened with the channel slowest, then t, row, column; ordered by time, row, column. Pixels that do not
// fill a tubelet are dropped.
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

}  // namespace qora
