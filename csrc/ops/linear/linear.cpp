#include "ops/linear/linear.h"

#include <algorithm>

#include "ops/ranges.h"

namespace qora {
namespace {

// Work items per thread when columns are divided, so that a slow core does not delay the others.
constexpr int64_t kItemsPerThread = 4;

}  // namespace

void linear(const char* op, const RowSource& x, const RowNorm& norm, const PackedLinear& weight,
            const Epilogue& epilogue, const Matrix& out, int num_threads) {
    check_operands(op, x, weight, epilogue.residual, out, weight.out_features());
    if (x.rows() == 0) return;
    const int64_t threads = resolve_threads(num_threads);
    const EvenBlocks blocks = row_blocks(x.rows(), weight.kernels(), num_threads);
    // Few rows: the columns are divided among threads too, and each thread encodes the rows again.
    const int64_t wanted = ceil_div(threads * kItemsPerThread, blocks.count);
    const int64_t chunk =
        ceil_div(weight.panels(), std::clamp<int64_t>(threads > 1 ? wanted : 1, 1, weight.panels()));
    const int64_t chunks = ceil_div(weight.panels(), chunk);
    parallel_ranges(weight.table(), blocks.count * chunks, 1, num_threads, [&](int64_t item, int64_t) {
        const int64_t begin = blocks.begin(item / chunks), end = blocks.begin(item / chunks + 1);
        const int64_t first = item % chunks * chunk, last = std::min(first + chunk, weight.panels());
        multiply_panels(encode_rows(x, begin, end, norm, weight), weight, {first, last}, epilogue, out,
                        begin);
    });
}

}  // namespace qora
