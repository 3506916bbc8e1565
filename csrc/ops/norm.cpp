#include "ops/norm.h"

#include "core/parallel.h"

namespace qora {

void normalise(const char* op, const KernelTable& table, const ConstMatrix& x, const RowNorm& norm,
               const Matrix& out, int num_threads) {
    check(x.dtype == DType::kF32 && out.dtype == DType::kF32, op, "expected float32 rows");
    check(x.rows == out.rows && x.cols == out.cols, op, "input and output differ in shape");
    parallel_for(x.rows, 16, num_threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
            normalise_row(table, reinterpret_cast<const float*>(x.at(r)), x.cols, norm,
                          reinterpret_cast<float*>(out.at(r)));
    });
}

}  // namespace qora
