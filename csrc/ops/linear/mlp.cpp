#include "ops/linear/mlp.h"

#include <string>

#include "ops/ranges.h"

namespace qora {

void mlp(const RowSource& x, const RowNorm& norm, const PackedLinear& fc1, Activation activation,
         const PackedLinear& fc2, const ConstMatrix& residual, const Matrix& out, int num_threads) {
    check_operands("mlp", x, fc1, residual, out, fc2.out_features());
    check(fc1.out_features() == fc2.in_features(), "mlp", [&] {
        return "the first layer gives " + std::to_string(fc1.out_features()) +
               " features, the second expects " + std::to_string(fc2.in_features());
    });
    check_complete("mlp", fc2);
    if (x.rows() == 0) return;
    const EvenBlocks blocks = row_blocks(x.rows(), fc1.kernels(), num_threads);
    const int64_t width = fc1.out_features();
    parallel_ranges(fc1.table(), blocks.count, 1, num_threads, [&](int64_t item, int64_t) {
        thread_local Buffer memory;  // outlives the op, to avoid page faults in the next call
        const int64_t begin = blocks.begin(item), end = blocks.begin(item + 1);
        Matrix hidden{memory.ensure<uint8_t>((end - begin) * width * 4), DType::kF32, end - begin, width,
                      width};
        multiply_panels(encode_rows(x, begin, end, norm, fc1), fc1, {0, fc1.panels()}, {activation, {}},
                        hidden, 0);
        const MatrixRows hidden_rows(as_const(hidden));
        multiply_panels(encode_rows(hidden_rows, 0, hidden.rows, {}, fc2), fc2, {0, fc2.panels()},
                        {Activation::kNone, residual}, out, begin);
    });
}

}  // namespace qora
