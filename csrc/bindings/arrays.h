// NumPy arrays as views of the engine. Every function here runs with the GIL held.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "core/views.h"

namespace qora {

namespace py = pybind11;

inline std::string describe(const py::array& a) {
    std::string text = py::str(a.dtype()).cast<std::string>() + " (";
    for (py::ssize_t i = 0; i < a.ndim(); ++i) text += (i ? ", " : "") + std::to_string(a.shape(i));
    return text + ")";
}

// float32, or uint16 that holds bf16.
inline DType dtype_of(const char* op, const py::array& a) {
    if (py::isinstance<py::array_t<float>>(a)) return DType::kF32;
    check(py::isinstance<py::array_t<uint16_t>>(a), op,
          [&] { return "expected float32 (or uint16 holding bf16), got " + describe(a); });
    return DType::kBf16;
}

// A 2-D array whose rows are contiguous.
inline ConstMatrix matrix(const char* op, const py::array& a) {
    ConstMatrix m;
    m.dtype = dtype_of(op, a);
    const auto item = static_cast<py::ssize_t>(dtype_size(m.dtype));
    check(a.ndim() == 2 && (a.size() == 0 || a.shape(1) == 1 || a.strides(1) == item) &&
              a.strides(0) % item == 0,
          op, [&] { return "expected a 2-D array with contiguous rows, got " + describe(a); });
    m.data = static_cast<const uint8_t*>(a.data());
    m.rows = a.shape(0);
    m.cols = a.shape(1);
    m.row_stride = a.strides(0) / item;
    return m;
}

// Likewise for an output. A 3-D array (blocks, rows, columns of a block) is a matrix whose columns come in
// blocks.
inline Matrix mutable_matrix(const char* op, py::array& a) {
    check(a.writeable(), op, "the output array is read-only");
    auto* data = static_cast<uint8_t*>(a.mutable_data());
    if (a.ndim() != 3) {
        const ConstMatrix m = matrix(op, a);
        return {data, m.dtype, m.rows, m.cols, m.row_stride};
    }
    const DType dtype = dtype_of(op, a);
    const auto item = static_cast<py::ssize_t>(dtype_size(dtype));
    check((a.shape(2) == 1 || a.strides(2) == item) && a.strides(0) % item == 0 && a.strides(1) % item == 0 &&
              a.shape(2) > 0,
          op, [&] { return "expected contiguous rows in each block, got " + describe(a); });
    return {data,
            dtype,
            a.shape(1),
            a.shape(0) * a.shape(2),
            a.strides(1) / item,
            a.shape(2),
            a.strides(0) / item};
}

using FloatArray = py::array_t<float, py::array::c_style>;

// The values of a contiguous float32 vector of n entries.
inline const float* vector(const char* op, const char* name, const FloatArray& a, int64_t n) {
    check(a.ndim() == 1 && a.shape(0) == n, op, [&] {
        return std::string(name) + " must be a float32 vector of " + std::to_string(n) + ", got " +
               describe(a);
    });
    return a.data();
}

}  // namespace qora
