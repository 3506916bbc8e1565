#include "ops/linear/row_products.h"

#include <algorithm>
#include <string>

#include "core/prefetch.h"

namespace qora {
namespace {

// A slice of a panel stays in the L1 cache together with the rows of a tile.
constexpr int64_t kSliceBytes = 24 * 1024;

// A thread's scratch memory. It outlives the op, to avoid page faults of large buffers in the next call.
struct Scratch {
    Buffer rows, operands, scales, panel, parts, accumulators;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

// Columns of a panel that are contiguous in the output, and their position in a block's first row.
struct OutputPart {
    int64_t column;
    int columns;
    uint8_t* out;
    const float* residual;
};

}  // namespace

int64_t max_block_rows(const FamilyKernels& kernels) {
    if (kernels.expand != nullptr) return kMaxExpandedBlockRows;
    return std::max<int64_t>(kMaxBlockRows, kMaxBlockTiles * kernels.mr);
}

EvenBlocks row_blocks(int64_t rows, const FamilyKernels& kernels, int num_threads) {
    return even_blocks(rows, kernels.mr, max_block_rows(kernels), num_threads);
}

int64_t slice_steps(const KernelTable& table) {
    return kSliceBytes / (table.nr * 4) / kMaxStepMultiple * kMaxStepMultiple;
}

EncodedRows encode_rows(const RowSource& x, int64_t begin, int64_t end, const RowNorm& norm,
                        const PackedLinear& weight) {
    Scratch& s = scratch();
    const KernelTable& table = weight.table();
    const int64_t k = weight.in_features(), padded = round_up(k, 64), rows = end - begin;
    const int64_t stride = padded * family_bytes(weight.family());
    auto* data = s.operands.ensure<uint8_t>(rows * stride);
    auto* scales = s.scales.ensure<RowScale>(rows);
    auto* some = s.rows.ensure<float>(kMaxRowsTogether * padded);
    const float* from[kMaxRowsTogether];
    float* to[kMaxRowsTogether];
    for (int i = 0; i < kMaxRowsTogether; ++i) to[i] = some + i * padded;
    for (int64_t r = 0; r < rows; r += kMaxRowsTogether) {
        const int count = static_cast<int>(std::min<int64_t>(kMaxRowsTogether, rows - r));
        for (int i = 0; i < count; ++i) from[i] = x.row(table, begin + r + i, to[i]);
        if (norm.gamma != nullptr) {
            table.norm_rows(from, count, k, norm.gamma, norm.beta, norm.eps, to);
            std::copy(to, to + count, from);
        }
        weight.kernels().encode_rows(from, count, k, padded, data + r * stride, scales + r);
    }
    return {data, stride, scales, rows};
}

void multiply_panels(const EncodedRows& a, const PackedLinear& weight, PanelRange panels,
                     const Epilogue& epilogue, const Matrix& out, int64_t first_row) {
    Scratch& s = scratch();
    const KernelTable& table = weight.table();
    const FamilyKernels& kernels = weight.kernels();
    const int64_t nr = table.nr, slice = slice_steps(table);
    // A vector may be read from any column, so there is one row more than is used.
    auto* acc = s.accumulators.ensure<uint8_t>((a.rows + 1) * nr * 4);
    auto* parts = s.parts.ensure<OutputPart>(nr);
    const int64_t out_bytes = static_cast<int64_t>(dtype_size(out.dtype)),
                  row_bytes = out.row_stride * out_bytes;

    EpilogueArgs e{};
    e.rows = static_cast<int>(a.rows);
    e.row_scale = a.scales;
    e.acc_stride = nr;
    e.integer = family_is_integer(weight.family());
    e.activation = epilogue.activation;
    e.residual_stride = epilogue.residual.row_stride;
    e.out_stride = out.row_stride;
    e.out_bf16 = out.dtype == DType::kBf16;
    TileArgs tile{};
    tile.a_stride = a.stride;
    tile.c_stride = nr * 4;
    // While a panel is used, the next one is prefetched to the L2 cache, a share with each tile.
    const int64_t tiles = ceil_div(a.rows, kernels.mr) * ceil_div(weight.steps(), slice);
    const int64_t share = ceil_div(weight.panel_bytes(), tiles);
    auto* expanded = kernels.expand == nullptr
                         ? nullptr
                         : s.panel.ensure<uint8_t>(operand_bytes(weight.family(), slice, nr));
    for (int64_t p = panels.first; p < panels.last; ++p) {
        const uint8_t* upcoming = weight.panel(std::min(p + 1, panels.last - 1));
        const int64_t end = std::min((p + 1) * nr, weight.out_features());
        // One, unless the panel crosses blocks of the output.
        const OutputPart* parts_end = parts;
        for (int64_t col = p * nr; col < end; col += parts_end++->columns)
            parts[parts_end - parts] = {
                col, static_cast<int>(std::min(end - col, out.run(col))), out.at(first_row, col),
                epilogue.residual.empty()
                    ? nullptr
                    : reinterpret_cast<const float*>(epilogue.residual.at(first_row, col))};
        for (int64_t step = 0; step < weight.steps(); step += slice) {
            const int64_t steps = std::min(slice, weight.steps() - step);
            const uint8_t* b = weight.panel(p, step);
            if (expanded != nullptr) {
                kernels.expand(b, steps / kGroupSteps, expanded);
                b = expanded;
            }
            const bool last_slice = step + steps == weight.steps();
            tile.steps = steps;
            tile.prefetch.step_bytes = ceil_div(share, steps);
            for (int64_t r = 0; r < a.rows; r += kernels.mr) {
                const int rows = static_cast<int>(std::min<int64_t>(kernels.mr, a.rows - r));
                // Cache lines that the epilogue will write: they are requested while the tile computes.
                for (int64_t i = r; last_slice && i < r + rows; ++i)
                    prefetch_write(parts->out + i * row_bytes,
                                   parts->out + i * row_bytes + parts->columns * out_bytes);
                uint8_t* sums = acc + r * nr * 4;
                tile.a = a.data + r * a.stride + step * 4;
                tile.b = b;
                tile.rows = rows;
                tile.c = sums;
                tile.initial = {step > 0 ? sums : nullptr, nr * 4};
                tile.prefetch.begin = upcoming;
                kernels.tile(tile);
                upcoming += share;
            }
        }
        for (const OutputPart* part = parts; part < parts_end; ++part) {
            e.acc = acc + (part->column - p * nr) * 4;
            e.cols = part->columns;
            e.col_scale = weight.col_scale() + part->column;
            e.col_sum = weight.col_sum() + part->column;
            e.bias = weight.bias() + part->column;
            e.residual = part->residual;
            e.out = part->out;
            table.epilogue(e);
        }
    }
}

void check_complete(const char* op, const PackedLinear& weight) {
    check(weight.complete(), op, "some output features of the weight were never set");
}

void check_operands(const char* op, const RowSource& x, const PackedLinear& weight,
                    const ConstMatrix& residual, const Matrix& out, int64_t out_features) {
    check_complete(op, weight);
    check(x.cols() == weight.in_features(), op, [&] {
        return "the input has " + std::to_string(x.cols()) + " features, the weight expects " +
               std::to_string(weight.in_features());
    });
    check(out.rows == x.rows() && out.cols == out_features, op, [&] {
        return "the output must be (" + std::to_string(x.rows()) + ", " + std::to_string(out_features) +
               "), got (" + std::to_string(out.rows) + ", " + std::to_string(out.cols) + ")";
    });
    check(residual.empty() ||
              (residual.dtype == DType::kF32 && residual.rows == out.rows && residual.cols == out.cols),
          op, "the residual must be float32 with the shape of the output");
}

}  // namespace qora
