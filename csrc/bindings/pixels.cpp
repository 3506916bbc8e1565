#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bindings.h"
#include "core/views.h"
#include "ops/pixels.h"

namespace py = pybind11;

namespace {

using qora::check;
using U8Array = py::array_t<uint8_t>;
using F32Array = py::array_t<float>;
using CropBox = std::tuple<int64_t, int64_t, int64_t, int64_t>;

std::string shape_text(const py::array& array) {
    return py::str(array.attr("shape")).cast<std::string>() + " " +
           py::str(array.attr("dtype")).cast<std::string>();
}

qora::ResizeFilter parse_filter(const std::string& name) {
    check(name == "bilinear" || name == "bicubic", "resize_u8",
          [&] { return "expected filter \"bilinear\" or \"bicubic\", got \"" + name + "\""; });
    return name == "bilinear" ? qora::ResizeFilter::kBilinear : qora::ResizeFilter::kBicubic;
}

qora::ResizeRule parse_rule(const std::string& name) {
    check(name == "pil" || name == "torchvision" || name == "plain", "resize_u8",
          [&] { return "expected rule \"pil\", \"torchvision\" or \"plain\", got \"" + name + "\""; });
    if (name == "pil") return qora::ResizeRule::kPil;
    return name == "plain" ? qora::ResizeRule::kPlain : qora::ResizeRule::kTorchvision;
}

U8Array resize_array(const py::array& frames, int64_t out_height, int64_t out_width,
                     const std::string& filter, const std::string& rule, const std::optional<CropBox>& crop,
                     int num_threads) {
    const bool clip = frames.ndim() == 4;
    check(py::isinstance<U8Array>(frames) && (clip || frames.ndim() == 3) &&
              frames.shape(frames.ndim() - 1) == 3 && (frames.flags() & py::array::c_style) != 0,
          "resize_u8", [&] {
              return "expected a C-contiguous uint8 array of shape (H, W, 3) or (T, H, W, 3), got " +
                     shape_text(frames);
          });
    qora::ResizeSpec spec;
    spec.filter = parse_filter(filter);
    spec.rule = parse_rule(rule);
    spec.out_height = out_height;
    spec.out_width = out_width;
    std::tie(spec.crop_top, spec.crop_left, spec.crop_height, spec.crop_width) =
        crop.value_or(CropBox{0, 0, out_height, out_width});
    const int64_t count = clip ? frames.shape(0) : 1;
    const int64_t height = frames.shape(clip ? 1 : 0), width = frames.shape(clip ? 2 : 1);
    qora::check_resize(count, height, width, spec);
    py::array::ShapeContainer shape{spec.crop_height, spec.crop_width, int64_t{3}};
    if (clip) shape->insert(shape->begin(), count);
    U8Array out(shape);
    const auto* source = static_cast<const uint8_t*>(frames.data());
    uint8_t* target = out.mutable_data();
    {
        py::gil_scoped_release release;
        qora::resize_u8(source, count, height, width, spec, target, num_threads);
    }
    return out;
}

void lookup_arrays(const std::vector<py::array>& parts, const py::array& table, py::array out,
                   bool reverse_channels, int num_threads) {
    check(py::isinstance<F32Array>(table) && table.ndim() == 2 && table.shape(0) == 3 &&
              table.shape(1) == 256 && (table.flags() & py::array::c_style) != 0,
          "lookup_u8", [&] {
              return "expected a C-contiguous float32 table of shape (3, 256), got " + shape_text(table);
          });
    check(py::isinstance<F32Array>(out) && out.ndim() == 4 && out.shape(1) == 3 &&
              (out.flags() & py::array::c_style) != 0 && out.writeable(),
          "lookup_u8", [&] {
              return "expected a writable C-contiguous float32 output of shape (T, 3, H, W), got " +
                     shape_text(out);
          });
    const int64_t height = out.shape(2), width = out.shape(3);
    std::vector<qora::FrameU8> frames;
    for (const py::array& part : parts) {
        check(py::isinstance<U8Array>(part) && part.ndim() == 4 && part.shape(3) == 3 &&
                  (part.size() == 0 || (part.strides(3) == 1 && part.strides(2) == 3)),
              "lookup_u8", [&] {
                  return "expected uint8 arrays of shape (n, H, W, 3) with contiguous rows, got " +
                         shape_text(part);
              });
        check(part.shape(1) == height && part.shape(2) == width, "lookup_u8", [&] {
            return "frames " + shape_text(part) + " do not fit the output of shape " + shape_text(out);
        });
        const auto* first = static_cast<const uint8_t*>(part.data());
        for (int64_t t = 0; t < part.shape(0); ++t)
            frames.push_back({first + t * part.strides(0), part.strides(1)});
    }
    check(out.shape(0) == static_cast<int64_t>(frames.size()), "lookup_u8", [&] {
        return std::to_string(frames.size()) + " frames do not fit the output of shape " + shape_text(out);
    });
    const auto* values = static_cast<const float*>(table.data());
    auto* target = static_cast<float*>(out.mutable_data());
    py::gil_scoped_release release;
    qora::lookup_u8(frames, height, width, values, reverse_channels, target, num_threads);
}

}  // namespace

namespace qora {

void bind_pixels(py::module_& m) {
    m.def("resize_u8", &resize_array, py::arg("frames"), py::arg("out_height"), py::arg("out_width"),
          py::arg("filter"), py::arg("rule"), py::arg("crop") = py::none(), py::arg("num_threads") = 0,
          "Resize uint8 frames (H, W, 3) or (T, H, W, 3); crop = (top, left, height, width) of the output.");
    m.def("lookup_u8", &lookup_arrays, py::arg("parts"), py::arg("table"), py::arg("out"),
          py::arg("reverse_channels") = false, py::arg("num_threads") = 0,
          "out[t, c] = table[c][frame[:, :, c]] for each frame t of uint8 arrays (n, H, W, 3); float32.");
}

}  // namespace qora
