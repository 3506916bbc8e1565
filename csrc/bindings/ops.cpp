#include <algorithm>
#include <cmath>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/overlap.h"
#include "kernels/dispatch.h"
#include "ops/attention/full.h"
#include "ops/attention/rotary.h"
#include "ops/attention/short.h"
#include "ops/attention/windowed.h"
#include "ops/finite.h"
#include "ops/linear/linear.h"
#include "ops/linear/mlp.h"
#include "ops/peak.h"

namespace qora {
namespace {

constexpr const char* kFamilyNames[kNumFamilies] = {"f32", "bf16", "i16", "i8", "q4"};

Family parse_family(const char* op, const std::string& name) {
    for (int i = 0; i < kNumFamilies; ++i)
        if (name == kFamilyNames[i]) return static_cast<Family>(i);
    throw std::invalid_argument(std::string(op) + ": unknown operand family '" + name +
                                "'; expected f32, bf16, i16, i8 or q4");
}

Activation parse_activation(const char* op, const std::optional<std::string>& name) {
    if (!name) return Activation::kNone;
    if (*name == "gelu") return Activation::kGelu;
    if (*name == "gelu_tanh") return Activation::kGeluTanh;
    throw std::invalid_argument(std::string(op) + ": unknown activation '" + *name +
                                "'; expected gelu or gelu_tanh");
}

// Gamma, beta (None: an RMS norm) and eps.
using Norm = std::optional<std::tuple<FloatArray, std::optional<FloatArray>, float>>;

RowNorm norm_of(const char* op, const Norm& norm, int64_t n) {
    if (!norm) return {};
    const auto& [gamma, beta, eps] = *norm;
    check(eps > 0.0f && std::isfinite(eps), op, "eps must be positive and finite");
    return {vector(op, "gamma", gamma, n), beta ? vector(op, "beta", *beta, n) : nullptr, eps};
}

ConstMatrix residual_of(const char* op, const std::optional<py::array>& residual) {
    return residual ? matrix(op, *residual) : ConstMatrix{};
}

Extent extent(const HeadView& h) {
    return extent(
        h.data, h.dtype,
        {{h.batch, h.batch_stride}, {h.rows, h.row_stride}, {h.heads, h.head_stride}, {h.head_dim, 1}});
}

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

HeadView heads_of(const char* op, const py::array& a) {
    HeadView h;
    h.dtype = dtype_of(op, a);
    const auto item = static_cast<py::ssize_t>(dtype_size(h.dtype));
    check(a.ndim() == 4, op, [&] { return "expected (batch, rows, heads, head_dim), got " + describe(a); });
    for (int i = 0; i < 4; ++i) check(a.strides(i) % item == 0, op, "unaligned strides");
    check(a.size() == 0 || a.shape(3) == 1 || a.strides(3) == item, op,
          "the values of a head must be contiguous");
    h.data = static_cast<const uint8_t*>(a.data());
    h.batch = a.shape(0);
    h.rows = a.shape(1);
    h.heads = a.shape(2);
    h.head_dim = a.shape(3);
    h.batch_stride = a.strides(0) / item;
    h.row_stride = a.strides(1) / item;
    h.head_stride = a.strides(2) / item;
    return h;
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

void run_norm(const char* op, const py::array& x, const Norm& norm, const std::string& isa, py::array& out,
              int threads) {
    const ConstMatrix rows = matrix(op, x);
    const RowNorm params = norm_of(op, norm, rows.cols);
    const Matrix result = mutable_matrix(op, out);
    const KernelTable& table = kernel_table(parse_isa(isa));
    py::gil_scoped_release released;
    normalise(op, table, rows, params, result, threads);
}

}  // namespace

void bind_ops(py::module_& m) {
    m.def("table_info", [](const std::string& isa) {
        const KernelTable& t = kernel_table(parse_isa(isa));
        py::dict rows;
        for (int i = 0; i < kNumFamilies; ++i) rows[kFamilyNames[i]] = t.family[i].mr;
        py::dict info;
        info["nr"] = t.nr;
        info["mr"] = rows;
        info["auto_q4"] = kFamilyNames[static_cast<int>(t.auto_q4)];
        info["auto_q8"] = kFamilyNames[static_cast<int>(t.auto_q8)];
        info["auto_float"] = kFamilyNames[static_cast<int>(t.auto_float)];
        info["auto_attention"] = kFamilyNames[static_cast<int>(t.auto_attention)];
        info["int8_attention"] = kFamilyNames[static_cast<int>(t.int8_attention)];
        return info;
    });

    m.def(
        "tile_peak",
        [](const std::string& isa, const std::string& family, int threads) {
            const KernelTable& table = kernel_table(parse_isa(isa));
            const Family operands = parse_family("tile_peak", family);
            py::gil_scoped_release released;
            return tile_peak(table, operands, threads);
        },
        py::arg("isa"), py::arg("family"), py::arg("threads") = 0);

    m.def("memory_peak", &memory_peak, py::call_guard<py::gil_scoped_release>(), py::arg("threads") = 0);

    py::class_<PackedLinear>(m, "PackedLinear")
        .def(py::init([](const std::string& isa, const std::string& family, int64_t out_features,
                         int64_t in_features) {
                 return PackedLinear(kernel_table(parse_isa(isa)), parse_family("pack_linear", family),
                                     out_features, in_features);
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
        .def_property_readonly(
            "family", [](const PackedLinear& p) { return kFamilyNames[static_cast<int>(p.family())]; })
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

    m.def(
        "attention",
        [](const py::array& q, const py::array& k, const py::array& v, float scale, const std::string& family,
           const std::string& isa, py::array out, int threads) {
            const KernelTable& table = kernel_table(parse_isa(isa));
            constexpr const char* op = "attention";
            const Family operands = parse_family(op, family);
            const HeadView queries = heads_of(op, q), keys = heads_of(op, k), values = heads_of(op, v);
            const Matrix result = mutable_matrix(op, out);
            check_apart(op, "q", extent(queries), result);
            py::gil_scoped_release released;
            attention(table, operands, queries, keys, values, scale, result, threads);
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("scale"), py::arg("family"), py::arg("isa"),
        py::arg("out"), py::arg("threads") = 0);

    m.def(
        "short_attention",
        [](const py::array& q, const py::array& k, const py::array& v, float scale, const std::string& isa,
           py::array out, int threads) {
            constexpr const char* op = "short_attention";
            const KernelTable& table = kernel_table(parse_isa(isa));
            const HeadView queries = heads_of(op, q), keys = heads_of(op, k), values = heads_of(op, v);
            const HeadView result = heads_of(op, out);
            check(out.writeable(), op, "the output is read-only");
            const Extent written = extent(result);
            for (const HeadView& operand : {queries, keys, values})
                check(!overlap(extent(operand), written), op,
                      "the output overlaps q, k or v, which are read after parts of it are written");
            auto* memory = static_cast<uint8_t*>(out.mutable_data());
            py::gil_scoped_release released;
            short_attention(table, queries, keys, values, scale, result, memory, threads);
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("scale"), py::arg("isa"), py::arg("out"),
        py::arg("threads") = 0);

    using Size = Windows::Size;
    m.def(
        "window_attention",
        [](const py::array& q, const py::array& k, const py::array& v, const FloatArray& bias, Size grid,
           Size window, Size shift, float scale, const std::string& family, const std::string& isa,
           py::array out, int threads) {
            constexpr const char* op = "window_attention";
            const KernelTable& table = kernel_table(parse_isa(isa));
            const Family operands = parse_family(op, family);
            const HeadView queries = heads_of(op, q), keys = heads_of(op, k), values = heads_of(op, v);
            check(bias.ndim() == 2 && bias.shape(1) == queries.heads, op, [&] {
                return "the bias must be (offsets, " + std::to_string(queries.heads) + "), got " +
                       describe(bias);
            });
            const Matrix result = mutable_matrix(op, out);
            for (const HeadView& operand : {queries, keys, values})
                check_apart(op, "q, k or v", extent(operand), result);
            py::gil_scoped_release released;
            window_attention(table, operands, queries, keys, values, {grid, window, shift}, bias.data(),
                             bias.shape(0), scale, result, threads);
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("bias").noconvert(), py::arg("grid"),
        py::arg("window"), py::arg("shift"), py::arg("scale"), py::arg("family"), py::arg("isa"),
        py::arg("out"), py::arg("threads") = 0);

    m.def(
        "rotate",
        [](py::array x, const FloatArray& cosines, const FloatArray& sines, const std::string& isa,
           int threads) {
            constexpr const char* op = "rotate";
            const KernelTable& table = kernel_table(parse_isa(isa));
            const HeadView heads = heads_of(op, x);
            check(x.writeable(), op, "the array is read-only");
            const ConstMatrix angles = matrix(op, cosines);
            check(angles.rows == heads.rows, op, [&] {
                return "expected angles for each row of " + describe(x) + ", got " + describe(cosines);
            });
            check(sines.ndim() == 2 && sines.shape(0) == angles.rows && sines.shape(1) == angles.cols, op,
                  [&] { return "the sines do not fit the cosines: " + describe(sines); });
            const Extent written = extent(heads);
            for (const FloatArray& part : {cosines, sines})
                check(!overlap(extent(matrix(op, part)), written), op, "the array overlaps the angles");
            auto* memory = static_cast<uint8_t*>(x.mutable_data());
            py::gil_scoped_release released;
            rotate(table, heads, memory, angles.cols, cosines.data(), sines.data(), threads);
        },
        py::arg("x"), py::arg("cosines").noconvert(), py::arg("sines").noconvert(), py::arg("isa"),
        py::arg("threads") = 0);

    m.def(
        "all_finite",
        [](const FloatArray& x, const std::string& isa, int threads) {
            const KernelTable& table = kernel_table(parse_isa(isa));
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
