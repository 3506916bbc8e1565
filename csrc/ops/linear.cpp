#include "ops/linear.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "core/prefetch.h"

namespace qora {
namespace {

// Most rows that one thread takes at a time. What they are written to, be it a hidden layer, stays in the L2
// until the last panel has been used, and the next panel comes in time. Panels that have to be expanded are
// worth it for more rows.
constexpr int64_t kMaxBlockRows = 48;
constexpr int64_t kMaxExpandedRows = 192;
// A panel is used in slices: every tile of a block uses one, and it stays in the L1 beside what passes by.
constexpr int64_t kSliceBytes = 24 * 1024;
// Work items per thread when columns are shared out, so that a slow core does not hold up the others.
constexpr int64_t kItemsPerThread = 4;

// A thread's scratch. It outlives the op, so that the pages of large buffers are faulted in once.
struct Scratch {
    Buffer rows, operands, scales, panel, parts, accumulators, hidden;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

int64_t slice_steps(const KernelTable& table) {
    return kSliceBytes / (table.nr * 4) / kGroupSteps * kGroupSteps;
}

// Encoded rows of a left operand.
struct Operands {
    const uint8_t* data;
    int64_t stride;  // bytes
    const RowScale* scales;
    int64_t rows;
};

Operands encode_rows(const RowSource& x, int64_t begin, int64_t end, const RowNorm& norm,
                     const PackedLinear& weight, Scratch& s) {
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

// Columns of a panel that lie side by side in the output, and where those of a block's first row are.
struct OutputPart {
    int64_t column;
    int columns;
    uint8_t* out;
    const float* residual;
};

// Panels [first, last) of the product of a block of operands, through the epilogue, to out (and residual)
// rows that start at `at`.
void multiply(const Operands& a, const PackedLinear& weight, int64_t first, int64_t last,
              const Epilogue& epilogue, const Matrix& out, int64_t at, Scratch& s) {
    const KernelTable& table = weight.table();
    const FamilyKernels& kernels = weight.kernels();
    const int64_t nr = table.nr, slice = slice_steps(table);
    // A vector may be read from any column: one row more than is used.
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
    // While a panel is used, the next one is brought from memory to the L2, a share with each tile.
    const int64_t tiles = ceil_div(a.rows, kernels.mr) * ceil_div(weight.steps(), slice);
    const int64_t share = ceil_div(weight.panel_bytes(), tiles);
    auto* expanded = kernels.expand == nullptr
                         ? nullptr
                         : s.panel.ensure<uint8_t>(operand_bytes(weight.family(), slice, nr));
    for (int64_t p = first; p < last; ++p) {
        const uint8_t* upcoming = weight.panel(std::min(p + 1, last - 1));
        const int64_t end = std::min((p + 1) * nr, weight.out_features());
        // One, unless the output's blocks cut the panel.
        const OutputPart* parts_end = parts;
        for (int64_t col = p * nr; col < end; col += parts_end++->columns)
            parts[parts_end - parts] = {
                col, static_cast<int>(std::min(end - col, out.run(col))), out.at(at, col),
                epilogue.residual.empty() ? nullptr
                                          : reinterpret_cast<const float*>(epilogue.residual.at(at, col))};
        for (int64_t step = 0; step < weight.steps(); step += slice) {
            const int64_t steps = std::min(slice, weight.steps() - step);
            const uint8_t* b = weight.panel(p, step);
            if (expanded != nullptr) {
                kernels.expand(b, steps / kGroupSteps, expanded);
                b = expanded;
            }
            const bool last_slice = step + steps == weight.steps();
            const ptrdiff_t ahead = ceil_div(share, steps);
            for (int64_t r = 0; r < a.rows; r += kernels.mr) {
                const int rows = static_cast<int>(std::min<int64_t>(kernels.mr, a.rows - r));
                // Lines that the epilogue will write: asked for while the tile computes, they need not be
                // waited for.
                for (int64_t i = r; last_slice && i < r + rows; ++i)
                    prefetch_write(parts->out + i * row_bytes,
                                   parts->out + i * row_bytes + parts->columns * out_bytes);
                uint8_t* sums = acc + r * nr * 4;
                kernels.tile(a.data + r * a.stride + step * 4, a.stride, b, steps, rows, sums, nr * 4,
                             {step > 0 ? sums : nullptr, nr * 4}, {upcoming, ahead});
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

EvenBlocks row_blocks(int64_t rows, const FamilyKernels& kernels, int num_threads) {
    const int64_t most = kernels.expand == nullptr ? kMaxBlockRows : kMaxExpandedRows;
    return even_blocks(rows, kernels.mr, most, num_threads);
}

void check_complete(const char* op, const PackedLinear& weight) {
    check(weight.complete(), op, "some output features of the weight were never set");
}

void check_rows(const char* op, const RowSource& x, const PackedLinear& weight, const ConstMatrix& residual,
                const Matrix& out, int64_t out_features) {
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

}  // namespace

const float* MatrixRows::row(const KernelTable& table, int64_t i, float* scratch) const {
    if (matrix_.dtype == DType::kF32) return reinterpret_cast<const float*>(matrix_.at(i));
    table.bf16_to_f32(reinterpret_cast<const uint16_t*>(matrix_.at(i)), matrix_.cols, scratch);
    return scratch;
}

TubeletRows::TubeletRows(const float* clip, Shape shape, Tubelet tubelet)
    : clip_(clip), shape_(shape), tubelet_(tubelet) {
    check(tubelet.frames > 0 && tubelet.height > 0 && tubelet.width > 0, "tubelet_embed",
          "expected a positive tubelet size");
    grid_t_ = shape.frames / tubelet.frames;
    grid_h_ = shape.height / tubelet.height;
    grid_w_ = shape.width / tubelet.width;
    check(rows() > 0, "tubelet_embed", "the clip is smaller than one tubelet");
}

const float* TubeletRows::row(const KernelTable&, int64_t i, float* scratch) const {
    const int64_t w = i % grid_w_, h = i / grid_w_ % grid_h_, t = i / (grid_w_ * grid_h_);
    float* to = scratch;
    for (int64_t c = 0; c < shape_.channels; ++c)
        for (int64_t dt = 0; dt < tubelet_.frames; ++dt) {
            const int64_t frame = (t * tubelet_.frames + dt) * shape_.channels + c;
            for (int64_t dy = 0; dy < tubelet_.height; ++dy, to += tubelet_.width) {
                const int64_t y = h * tubelet_.height + dy;
                const float* from = clip_ + (frame * shape_.height + y) * shape_.width + w * tubelet_.width;
                std::memcpy(to, from, static_cast<size_t>(tubelet_.width) * 4);
            }
        }
    return scratch;
}

void linear(const char* op, const RowSource& x, const RowNorm& norm, const PackedLinear& weight,
            const Epilogue& epilogue, const Matrix& out, int num_threads) {
    check_rows(op, x, weight, epilogue.residual, out, weight.out_features());
    if (x.rows() == 0) return;
    const int64_t threads = resolve_threads(num_threads);
    const EvenBlocks blocks = row_blocks(x.rows(), weight.kernels(), num_threads);
    // Few rows: the columns are shared out too, and each share encodes the rows again.
    const int64_t wanted = ceil_div(threads * kItemsPerThread, blocks.count);
    const int64_t chunk =
        ceil_div(weight.panels(), std::clamp<int64_t>(threads > 1 ? wanted : 1, 1, weight.panels()));
    const int64_t chunks = ceil_div(weight.panels(), chunk);
    parallel_for(blocks.count * chunks, 1, num_threads, [&](int64_t item, int64_t) {
        Scratch& s = scratch();
        const int64_t begin = blocks.begin(item / chunks), end = blocks.begin(item / chunks + 1);
        const int64_t first = item % chunks * chunk, last = std::min(first + chunk, weight.panels());
        multiply(encode_rows(x, begin, end, norm, weight, s), weight, first, last, epilogue, out, begin, s);
    });
}

void mlp(const RowSource& x, const RowNorm& norm, const PackedLinear& fc1, Activation activation,
         const PackedLinear& fc2, const ConstMatrix& residual, const Matrix& out, int num_threads) {
    check_rows("mlp", x, fc1, residual, out, fc2.out_features());
    check(fc1.out_features() == fc2.in_features(), "mlp", [&] {
        return "the first layer gives " + std::to_string(fc1.out_features()) +
               " features, the second expects " + std::to_string(fc2.in_features());
    });
    check_complete("mlp", fc2);
    if (x.rows() == 0) return;
    const EvenBlocks blocks = row_blocks(x.rows(), fc1.kernels(), num_threads);
    const int64_t width = fc1.out_features();
    parallel_for(blocks.count, 1, num_threads, [&](int64_t item, int64_t) {
        Scratch& s = scratch();
        const int64_t begin = blocks.begin(item), end = blocks.begin(item + 1);
        Matrix hidden{s.hidden.ensure<uint8_t>((end - begin) * width * 4), DType::kF32, end - begin, width,
                      width};
        multiply(encode_rows(x, begin, end, norm, fc1, s), fc1, 0, fc1.panels(), {activation, {}}, hidden, 0,
                 s);
        const MatrixRows hidden_rows(as_const(hidden));
        multiply(encode_rows(hidden_rows, 0, hidden.rows, {}, fc2, s), fc2, 0, fc2.panels(),
                 {Activation::kNone, residual}, out, begin, s);
    });
}

}  // namespace qora
