#include "ops/linear/quantize.h"

#include "bindings/arrays.h"
#include "bindings/bindings.h"

namespace qora {

void bind_quantize(py::module_& m) {
    m.def(
        "quantize",
        [](const FloatArray& weight, const std::string& kind, int threads) {
            check(kind == "q4" || kind == "q8", "quantize",
                  [&] { return "the kind must be 'q4' or 'q8', got '" + kind + "'"; });
            check(weight.ndim() == 2, "quantize",
                  [&] { return "expected a 2-D float32 array, got " + describe(weight); });
            const bool q4 = kind == "q4";
            const int64_t rows = weight.shape(0), cols = weight.shape(1), groups = ceil_div(cols, kGroupSize);
            py::array data = q4 ? py::array(py::array_t<uint8_t>({rows, groups * kGroupSize / 2}))
                                : py::array(py::array_t<int8_t>({rows, groups * kGroupSize}));
            py::array_t<uint16_t> scales({rows, groups});
            void* data_out = data.mutable_data();
            uint16_t* scales_out = scales.mutable_data();
            {
                py::gil_scoped_release released;
                quantise(q4 ? WeightKind::kQ4 : WeightKind::kQ8, weight.data(), rows, cols, data_out,
                         scales_out, threads);
            }
            return py::make_tuple(data, scales);
        },
        py::arg("weight").noconvert(), py::arg("kind"), py::arg("threads") = 0);
}

}  // namespace qora
