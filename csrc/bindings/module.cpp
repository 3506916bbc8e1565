#include <pybind11/pybind11.h>

#include "bindings/bindings.h"
#include "core/cpus.h"
#include "core/parallel.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    m.doc() = "Native kernels of qora_vision. Use qora_vision.engine.ops: it documents and checks arguments.";
    m.def("num_threads", &qora::num_threads);
    m.def("quota_cpus", &qora::quota_cpus, py::arg("root") = "");
    m.def("set_num_threads", &qora::set_num_threads, py::arg("n"));
    m.def("uses_openmp", &qora::uses_openmp);
    qora::bind_isas(m);
    qora::bind_tables(m);
    qora::bind_primitives(m);
    qora::bind_linear(m);
    qora::bind_attention(m);
    qora::bind_rows(m);
    qora::bind_sequence(m);
    qora::bind_quantize(m);
    qora::bind_pixels(m);
}
