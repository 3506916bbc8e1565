// Weights in the layout that the kernels read.
#pragma once

#include <cstdint>

#include "core/views.h"
#include "kernels/kernel_table.h"
#include "ops/linear/stored_weights.h"

namespace qora {

// A linear layer's weights as panels [N / nr][steps][nr] of dwords for one table and one operand family, with
// its bias. Integer panels carry one scale per output feature. i8: the groups are requantised to the largest
// |weight| of the feature = 127, which loses about as much as the activations' own eight bits. q4: the
// weights stay in four bits, as stored, and the scales of the groups become integers, as large as an int32
// sum allows.
class PackedLinear {
  public:
    PackedLinear(const KernelTable& table, Family family, int64_t out_features, int64_t in_features);

    // Fills output features [at, at + weight.rows) from a stored weight, and their bias (null = zeros).
    // Throws std::invalid_argument if a weight is not finite, or if the family is q4 and the weight is not.
    void set_rows(int64_t at, const WeightView& weight, const float* bias, int num_threads);

    const KernelTable& table() const { return *table_; }
    const FamilyKernels& kernels() const { return table_->family[static_cast<int>(family_)]; }
    Family family() const { return family_; }
    int64_t out_features() const { return out_features_; }
    int64_t in_features() const { return in_features_; }
    int64_t steps() const { return steps_; }
    int64_t panels() const { return panels_; }
    // Whether every output feature was set.
    bool complete() const { return rows_set_ >= out_features_; }
    // One panel from one of its steps on (q4: the first step of a group): a right operand, or the stored form
    // that kernels().expand converts to one.
    const uint8_t* panel(int64_t index, int64_t step = 0) const {
        return memory_.data() + index * panel_bytes_ + step * step_bytes_;
    }
    int64_t panel_bytes() const { return panel_bytes_; }
    // Padded to whole panels.
    const float* bias() const { return reinterpret_cast<const float*>(memory_.data() + bias_at_); }
    const float* col_scale() const { return reinterpret_cast<const float*>(memory_.data() + col_scale_at_); }
    const float* col_sum() const { return reinterpret_cast<const float*>(memory_.data() + col_sum_at_); }
    size_t nbytes() const { return memory_.capacity(); }

  private:
    void pack_row(int64_t n, const float* row);
    void pack_q4_row(int64_t n, const WeightView& weight, int64_t row);
    void requantise_q4_rows(int64_t n, const WeightView& weight, int64_t row, int64_t count);
    void set_column(int64_t n, float scale, int32_t sum);

    const KernelTable* table_;
    Family family_;
    int64_t out_features_, in_features_, steps_, panels_, step_bytes_, panel_bytes_;
    int64_t rows_set_ = 0;
    int64_t bias_at_, col_scale_at_, col_sum_at_;
    Buffer memory_;
};

}  // namespace qora
