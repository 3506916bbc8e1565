#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/overlap.h"
#include "bindings/tables.h"
#include "ops/attention/full.h"
#include "ops/attention/rotary.h"
#include "ops/attention/short.h"
#include "ops/attention/windowed.h"

namespace qora {
namespace {

Extent extent(const HeadView& h) {
    return extent(
        h.data, h.dtype,
        {{h.batch, h.batch_stride}, {h.rows, h.row_stride}, {h.heads, h.head_stride}, {h.head_dim, 1}});
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

}  // namespace

void bind_attention(py::module_& m) {
    m.def(
        "attention",
        [](const py::array& q, const py::array& k, const py::array& v, float scale, const std::string& family,
           const std::string& isa, py::array out, int threads) {
            const KernelTable& table = table_named(isa);
            constexpr const char* op = "attention";
            const Family operands = parse_family(op, family);
            const AttentionInputs inputs{heads_of(op, q), heads_of(op, k), heads_of(op, v), scale};
            const Matrix result = mutable_matrix(op, out);
            check_apart(op, "q", extent(inputs.q), result);
            py::gil_scoped_release released;
            attention(table, operands, inputs, result, threads);
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("scale"), py::arg("family"), py::arg("isa"),
        py::arg("out"), py::arg("threads") = 0);

    m.def(
        "short_attention",
        [](const py::array& q, const py::array& k, const py::array& v, float scale, const std::string& isa,
           py::array out, int threads) {
            constexpr const char* op = "short_attention";
            const KernelTable& table = table_named(isa);
            const AttentionInputs inputs{heads_of(op, q), heads_of(op, k), heads_of(op, v), scale};
            const HeadView result = heads_of(op, out);
            check(out.writeable(), op, "the output is read-only");
            const Extent written = extent(result);
            for (const HeadView& operand : {inputs.q, inputs.k, inputs.v})
                check(!overlap(extent(operand), written), op,
                      "the output overlaps q, k or v, which are read after parts of it are written");
            auto* memory = static_cast<uint8_t*>(out.mutable_data());
            py::gil_scoped_release released;
            short_attention(table, inputs, result, memory, threads);
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
            const KernelTable& table = table_named(isa);
            const Family operands = parse_family(op, family);
            const AttentionInputs inputs{heads_of(op, q), heads_of(op, k), heads_of(op, v), scale};
            check(bias.ndim() == 2 && bias.shape(1) == inputs.q.heads, op, [&] {
                return "the bias must be (offsets, " + std::to_string(inputs.q.heads) + "), got " +
                       describe(bias);
            });
            const Matrix result = mutable_matrix(op, out);
            for (const HeadView& operand : {inputs.q, inputs.k, inputs.v})
                check_apart(op, "q, k or v", extent(operand), result);
            py::gil_scoped_release released;
            window_attention(table, operands, inputs, {grid, window, shift}, {bias.data(), bias.shape(0)},
                             result, threads);
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("bias").noconvert(), py::arg("grid"),
        py::arg("window"), py::arg("shift"), py::arg("scale"), py::arg("family"), py::arg("isa"),
        py::arg("out"), py::arg("threads") = 0);

    m.def(
        "rotate",
        [](py::array x, const FloatArray& cosines, const FloatArray& sines, const std::string& isa,
           int threads) {
            constexpr const char* op = "rotate";
            const KernelTable& table = table_named(isa);
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
}

}  // namespace qora
