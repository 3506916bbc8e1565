#include "ops/norm.h"

#include "core/parallel.h"

namespace qora {

void layer_norm(const KernelTable& table, const ConstMatrix& x, const LayerNorm& norm, const Matrix& out,
                int num_threads) {
    check(x.dtype == DType::kF32 && out.dtype == DType::kF32, "layer_norm", "expected float32 rows");
    check(x.rows == out.rows && x.cols == out.cols, "layer_norm", "input and output differ in shape");
    parallel_for(x.rows, 16, num_threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
            table.layer_norm(reinterpret_cast<const float*>(x.at(r)), x.cols, norm.gamma, norm.beta, norm.eps,
                             reinterpret_cast<float*>(out.at(r)));
    });
}

}  // namespace qora
