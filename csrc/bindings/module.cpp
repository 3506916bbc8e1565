#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    m.doc() =
        "Native kernels of qora_vision. Use qora_vision.ops: it documents and checks what is passed here.";
    m.def("known_isas", [] {
        py::list rows;
        for (const qora::IsaInfo& info : qora::known_isas()) {
            py::dict row;
            row["name"] = info.name;
            row["platform"] = info.platform;
            row["base"] = info.isa == info.base ? py::object(py::none()) : py::str(qora::isa_name(info.base));
            row["features"] = py::str(info.features).attr("split")();
            row["built"] = info.built;
            rows.append(row);
        }
        return rows;
    });
    m.def("available_isas", [] {
        std::vector<std::string> names;
        for (qora::Isa isa : qora::available_isas()) names.emplace_back(qora::isa_name(isa));
        return names;
    });
    m.def("default_isa", [] { return qora::isa_name(qora::default_isa()); });
    m.def("cpu_name", &qora::cpu_name);
    m.def("num_threads", &qora::num_threads);
    m.def("set_num_threads", &qora::set_num_threads, py::arg("n"));
    m.def("uses_openmp", &qora::uses_openmp);
    qora::bind_ops(m);
    qora::bind_quantize(m);
    qora::bind_recurrent(m);
    qora::bind_resize(m);
}
