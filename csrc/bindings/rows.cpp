#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/row_arguments.h"
#include "bindings/tables.h"
#include "ops/finite.h"
#include "ops/norm.h"

namespace qora {
namespace {

void run_norm(const char* op, const py::array& x, const Norm& norm, const std::string& isa, py::array& out,
              int threads) {
    const ConstMatrix rows = matrix(op, x);
    const RowNorm params = norm_of(op, norm, rows.cols);
    const Matrix result = mutable_matrix(op, out);
    const KernelTable& table = table_named(isa);
    py::gil_scoped_release released;
    normalise(op, table, rows, params, result, threads);
}

}  // namespace

void bind_rows(py::module_& m) {
    m.def(
        "all_finite",
        [](const FloatArray& x, const std::string& isa, int threads) {
            const KernelTable& table = table_named(isa);
            const float* values = x.data();
            const int64_t count = x.size();
            py::gil_scoped_release released;
            return all_finite(table, values, count, threads);
        },
        py::arg("x").noconvert(), py::arg("isa"), py::arg("threads") = 0);

    m.def(
        "layer_norm",
        [](const py::array& x, const FloatArray& gamma, const FloatArray& beta, float eps,
           const std::string& isa, py::array out,
           int threads) { run_norm("layer_norm", x, std::tuple(gamma, beta, eps), isa, out, threads); },
        py::arg("x"), py::arg("gamma").noconvert(), py::arg("beta").noconvert(), py::arg("eps"),
        py::arg("isa"), py::arg("out"), py::arg("threads") = 0);
    m.def(
        "rms_norm",
        [](const py::array& x, const FloatArray& gamma, float eps, const std::string& isa, py::array out,
           int threads) { run_norm("rms_norm", x, std::tuple(gamma, std::nullopt, eps), isa, out, threads); },
        py::arg("x"), py::arg("gamma").noconvert(), py::arg("eps"), py::arg("isa"), py::arg("out"),
        py::arg("threads") = 0);
}

}  // namespace qora
