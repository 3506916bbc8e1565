#include "ops/sequence/recurrent.h"

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/overlap.h"
#include "bindings/tables.h"

namespace qora {

void bind_sequence(py::module_& m) {
    m.def(
        "causal_conv",
        [](const py::array& x, const FloatArray& weight, const FloatArray& bias, py::array history,
           const std::string& isa, py::array out, int threads) {
            const char* op = "causal_conv";
            const ConstMatrix rows = matrix(op, x);
            check(weight.ndim() == 2 && weight.shape(1) == rows.cols, op, [&] {
                return "the weight must be (taps, " + std::to_string(rows.cols) + "), got " +
                       describe(weight);
            });
            const float* offsets = vector(op, "the bias", bias, rows.cols);
            const Matrix past = mutable_matrix(op, history), result = mutable_matrix(op, out);
            check_apart(op, "the input", extent(rows), result);
            check_apart(op, "the history", extent(as_const(past)), result);
            check_apart(op, "the input", extent(rows), past);
            const KernelTable& table = table_named(isa);
            py::gil_scoped_release released;
            causal_conv(table, rows, weight.data(), weight.shape(0), offsets, past, result, threads);
        },
        py::arg("x"), py::arg("weight").noconvert(), py::arg("bias").noconvert(), py::arg("history"),
        py::arg("isa"), py::arg("out"), py::arg("threads") = 0);

    m.def(
        "gated_recurrence",
        [](const py::array& x, const py::array& input_gate, const py::array& decay_gate,
           const FloatArray& decay, const py::array& branch, bool fresh, py::array state,
           const std::string& isa, py::array out, int threads) {
            const char* op = "gated_recurrence";
            const ConstMatrix rows = matrix(op, x), gate = matrix(op, input_gate),
                              keep = matrix(op, decay_gate), factor = matrix(op, branch);
            const float* rates = vector(op, "the decay", decay, rows.cols);
            const Matrix memory = mutable_matrix(op, state), result = mutable_matrix(op, out);
            check_same_or_apart(op, "the input", rows, result);
            for (const ConstMatrix& input : {gate, keep, factor}) {
                check_apart(op, "a gate", extent(input), result);
                check_apart(op, "a gate", extent(input), memory);
            }
            check_apart(op, "the state", extent(as_const(memory)), result);
            check_apart(op, "the input", extent(rows), memory);
            const KernelTable& table = table_named(isa);
            py::gil_scoped_release released;
            gated_recurrence(table, {rows, gate, keep, rates, factor, fresh}, memory, result, threads);
        },
        py::arg("x"), py::arg("input_gate"), py::arg("decay_gate"), py::arg("decay").noconvert(),
        py::arg("branch"), py::arg("fresh"), py::arg("state"), py::arg("isa"), py::arg("out"),
        py::arg("threads") = 0);
}

}  // namespace qora
