#include "ops/norm.h"

#include "ops/ranges.h"

namespace qora {
namespace {

constexpr int64_t kRowsAtATime = 16;

}  // namespace

void normalise(const char* op, const KernelTable& table, const ConstMatrix& x, const RowNorm& norm,
               const Matrix& out, int num_threads) {
    check(x.dtype == DType::kF32 && out.dtype == DType::kF32, op, "expected float32 rows");
    check(x.rows == out.rows && x.cols == out.cols, op, "input and output differ in shape");
    parallel_ranges(table, x.rows, kRowsAtATime, num_threads, [&](int64_t begin, int64_t end) {
        const float* from[kRowsAtATime];
        float* to[kRowsAtATime];
        for (int64_t r = begin; r < end; ++r) {
            from[r - begin] = reinterpret_cast<const float*>(x.at(r));
            to[r - begin] = reinterpret_cast<float*>(out.at(r));
        }
        table.norm_rows(from, static_cast<int>(end - begin), x.cols, norm.gamma, norm.beta, norm.eps, to);
    });
}

}  // namespace qora
