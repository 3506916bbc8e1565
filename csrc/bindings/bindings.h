// Each function adds the bindings of one file to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace qora {

void bind_attention(pybind11::module_& m);
void bind_isas(pybind11::module_& m);
void bind_linear(pybind11::module_& m);
void bind_pixels(pybind11::module_& m);
void bind_primitives(pybind11::module_& m);
void bind_quantize(pybind11::module_& m);
void bind_rows(pybind11::module_& m);
void bind_sequence(pybind11::module_& m);
void bind_tables(pybind11::module_& m);

}  // namespace qora
