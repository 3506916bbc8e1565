// A block of rows times panels of a packed weight: what linear layers and MLPs are made of.
#pragma once

#include "core/parallel.h"
#include "core/views.h"
#include "ops/linear/pack.h"
#include "ops/linear/row_sources.h"
#include "ops/norm.h"

namespace qora {

// What happens to a tile of results before it is stored.
struct Epilogue {
    Activation activation = Activation::kNone;
    ConstMatrix residual;  // float32, added after the activation; empty = none
};

// Most rows of a block, which one thread takes at a time. Few enough for what they are written to, a hidden
// layer above all, to stay in the L2 until the last panel has been used; enough for a panel to be worth
// bringing from memory. A panel that has to be expanded (q4) is worth it for more rows, and so is one that
// tiles of sixteen rows have used up sooner.
constexpr int64_t kMaxBlockRows = 48, kMaxBlockTiles = 6;
constexpr int64_t kMaxExpandedBlockRows = 192;

int64_t max_block_rows(const FamilyKernels& kernels);

// The blocks of `rows` rows that threads share.
EvenBlocks row_blocks(int64_t rows, const FamilyKernels& kernels, int num_threads);

// Steps of a panel that all tiles of a block use before the next ones: so many stay in the L1 beside the rows
// that pass by. A multiple of kMaxStepMultiple.
int64_t slice_steps(const KernelTable& table);

// Rows of a left operand, encoded. They stay until the thread encodes others.
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

// Likewise unless x fits the weight, and the output and residual fit x and out_features.
void check_operands(const char* op, const RowSource& x, const PackedLinear& weight,
                    const ConstMatrix& residual, const Matrix& out, int64_t out_features);

}  // namespace qora
