// Each file of the binding adds its functions to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace qora {

void bind_ops(pybind11::module_& m);
void bind_quantize(pybind11::module_& m);
void bind_recurrent(pybind11::module_& m);
void bind_resize(pybind11::module_& m);

}  // namespace qora
