#include "ops/linear/linear.h"

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/overlap.h"
#include "bindings/row_arguments.h"
#include "bindings/tables.h"
#include "ops/linear/mlp.h"

namespace qora {
namespace {

// Native byte order.
bool is_half(const py::array& a) { return a.dtype().equal(py::dtype("float16")); }

WeightView weight_view(const py::array& data, const std::optional<py::array>& scales, int64_t in_features) {
    constexpr const char* op = "pack_linear";
    check(data.ndim() == 2 && (data.flags() & py::array::c_style), op,
          [&] { return "expected a contiguous 2-D weight, got " + describe(data); });
    WeightView w;
    w.rows = data.shape(0);
    w.cols = in_features;
    w.data = data.data();
    int64_t stored_cols = in_features;
    if (!scales) {
        const bool half = is_half(data);
        check(half || py::isinstance<py::array_t<float>>(data), op,
              [&] { return "a plain weight must be float32 or float16, got " + describe(data); });
        w.kind = half ? WeightKind::kF16 : WeightKind::kF32;
    } else {
        const bool q4 = py::isinstance<py::array_t<uint8_t>>(data);
        check(q4 || py::isinstance<py::array_t<int8_t>>(data), op,
              [&] { return "a quantised weight must be uint8 (q4) or int8 (q8), got " + describe(data); });
        w.kind = q4 ? WeightKind::kQ4 : WeightKind::kQ8;
        stored_cols = w.groups() * (q4 ? kGroupSize / 2 : kGroupSize);
        check(is_half(*scales) && scales->ndim() == 2 && scales->shape(0) == w.rows &&
                  scales->shape(1) == w.groups() && (scales->flags() & py::array::c_style),
              op,
              [&] { return "scales must be contiguous float16 (rows, groups), got " + describe(*scales); });
        w.scales = static_cast<const uint16_t*>(scales->data());
    }
    check(data.shape(1) == stored_cols, op, [&] {
        return "expected " + std::to_string(stored_cols) + " stored columns, got " + describe(data);
    });
    return w;
}

void run_linear(const char* op, const RowSource& x, const Norm& norm, const PackedLinear& weight,
                const std::optional<std::string>& activation, const std::optional<py::array>& residual,
                py::array& out, int threads) {
    const RowNorm params = norm_of(op, norm, weight.in_features());
    const Epilogue epilogue{parse_activation(op, activation), residual_of(op, residual)};
    const Matrix result = mutable_matrix(op, out);
    check_same_or_apart(op, "the residual", epilogue.residual, result);
    py::gil_scoped_release released;
    linear(op, x, params, weight, epilogue, result, threads);
}

}  // namespace

void bind_linear(py::module_& m) {
    py::class_<PackedLinear>(m, "PackedLinear")
        .def(py::init([](const std::string& isa, const std::string& family, int64_t out_features,
                         int64_t in_features) {
                 return PackedLinear(table_named(isa), parse_family("pack_linear", family), out_features,
                                     in_features);
             }),
             py::arg("isa"), py::arg("family"), py::arg("out_features"), py::arg("in_features"))
        .def(
            "set_rows",
            [](PackedLinear& self, int64_t at, const py::array& data, const std::optional<py::array>& scales,
               const std::optional<FloatArray>& bias, int threads) {
                const WeightView w = weight_view(data, scales, self.in_features());
                const float* values = bias ? vector("pack_linear", "bias", *bias, w.rows) : nullptr;
                py::gil_scoped_release released;
                self.set_rows(at, w, values, threads);
            },
            py::arg("at"), py::arg("data"), py::arg("scales"), py::arg("bias").noconvert(),
            py::arg("threads") = 0)
        .def_property_readonly("out_features", &PackedLinear::out_features)
        .def_property_readonly("in_features", &PackedLinear::in_features)
        .def_property_readonly("family", [](const PackedLinear& p) { return family_name(p.family()); })
        .def_property_readonly("nbytes", &PackedLinear::nbytes);

    m.def(
        "linear",
        [](const py::array& x, const PackedLinear& weight, const Norm& norm,
           const std::optional<std::string>& activation, const std::optional<py::array>& residual,
           py::array out, int threads) {
            const ConstMatrix rows = matrix("linear", x);
            check_apart("linear", "the input", extent(rows), mutable_matrix("linear", out));
            run_linear("linear", MatrixRows(rows), norm, weight, activation, residual, out, threads);
        },
        py::arg("x"), py::arg("weight"), py::arg("norm"), py::arg("activation"), py::arg("residual"),
        py::arg("out"), py::arg("threads") = 0);

    m.def(
        "tubelet_embed",
        [](const FloatArray& clip, std::tuple<int64_t, int64_t, int64_t> tubelet, const PackedLinear& weight,
           const std::optional<py::array>& residual, py::array out, int threads) {
            check(clip.ndim() == 4, "tubelet_embed",
                  [&] { return "expected a (T, C, H, W) float32 clip, got " + describe(clip); });
            const auto [t, h, w] = tubelet;
            const TubeletRows rows(clip.data(), {clip.shape(0), clip.shape(1), clip.shape(2), clip.shape(3)},
                                   {t, h, w});
            const auto* data = reinterpret_cast<const uint8_t*>(clip.data());
            check_apart("tubelet_embed", "the clip", {data, data + clip.nbytes()},
                        mutable_matrix("tubelet_embed", out));
            run_linear("tubelet_embed", rows, std::nullopt, weight, std::nullopt, residual, out, threads);
        },
        py::arg("clip").noconvert(), py::arg("tubelet"), py::arg("weight"), py::arg("residual"),
        py::arg("out"), py::arg("threads") = 0);

    m.def(
        "mlp",
        [](const py::array& x, const Norm& norm, const PackedLinear& fc1,
           const std::optional<std::string>& activation, const PackedLinear& fc2,
           const std::optional<py::array>& residual, py::array out, int threads) {
            const ConstMatrix input = matrix("mlp", x);
            const RowNorm params = norm_of("mlp", norm, fc1.in_features());
            const Activation act = parse_activation("mlp", activation);
            const ConstMatrix added = residual_of("mlp", residual);
            const Matrix result = mutable_matrix("mlp", out);
            check_same_or_apart("mlp", "the input", input, result);
            check_same_or_apart("mlp", "the residual", added, result);
            py::gil_scoped_release released;
            mlp(MatrixRows(input), params, fc1, act, fc2, added, result, threads);
        },
        py::arg("x"), py::arg("norm"), py::arg("fc1"), py::arg("activation"), py::arg("fc2"),
        py::arg("residual"), py::arg("out"), py::arg("threads") = 0);
}

}  // namespace qora
