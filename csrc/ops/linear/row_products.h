// Products of a block of rows and panels of a packed weight: the building block of linear layers and MLPs.
#pragma once

#include "core/parallel.h"
#include "core/views.h"
#include "ops/linear/pack.h"
#include "ops/linear/row_sources.h"
#include "ops/norm.h"

namespace qora {

// The epilogue: operations on the sums of a tile before they are stored.
struct Epilogue {
    Activation activation = Activation::kNone;
    ConstMatrix residual;  // float32, added after the activation; empty = none
};

// The most rows of a block, the work of one thread at a time. They are few enough for their output, above all
// a hidden layer, to stay in the L2 cache until the last panel has been used. They are enough to make loading
// a panel from memory worthwhile; a panel that has to be expanded (q4) needs more rows for that, and so does
// one that tiles of sixteen rows use up sooner.
constexpr int64_t kMaxBlockRows = 48, kMaxBlockTiles = 6;
constexpr int64_t kMaxExpandedBlockRows = 192;

int64_t max_block_rows(const FamilyKernels& kernels);

// The division of `rows` rows into blocks for threads.
EvenBlocks row_blocks(int64_t rows, const FamilyKernels& kernels, int num_threads);

// Steps of a slice of a panel, which all tiles of a block use before the next slice: so many stay in the L1
// cache together with the rows of a tile. A multiple of kMaxStepMultiple.
int64_t slice_steps(const KernelTable& table);

// Rows of a left operand, encoded. They are valid until the thread encodes other rows.
struct EncodedRows {
    const uint8_t* data;
    int64_t stride;  // bytes
    const RowScale* scales;
    int64_t rows;
};

// Rows [begin, end) of x, normalised and encoded for the weight's operand family.
EncodedRows encode_rows(const RowSource& x, int64_t begin, int64_t end, const RowNorm& norm,
                        const PackedLinear& weight);

// Panels of a weight, [first, last).
struct PanelRange {
    int64_t first, last;
};

// Rows times panels, through the epilogue, to the rows of out (and of the residual) from `first_row` on.
void multiply_panels(const EncodedRows& a, const PackedLinear& weight, PanelRange panels,
                     const Epilogue& epilogue, const Matrix& out, int64_t first_row);

// Throws std::invalid_argument unless every output feature of the weight was set. `op` names the caller.
void check_complete(const char* op, const PackedLinear& weight);

// Likewise unless the shapes of x and the weight match, and those of output and residual match x and
// out_features.
void check_operands(const char* op, const RowSource& x, const PackedLinear& weight,
                    const ConstMatrix& residual, const Matrix& out, int64_t out_features);

}  // namespace qora
