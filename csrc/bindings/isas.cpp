#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>

#include "bindings/bindings.h"
#include "core/isa.h"

namespace py = pybind11;

namespace qora {

void bind_isas(py::module_& m) {
    m.def("known_isas", [] {
        py::list rows;
        for (const IsaInfo& info : known_isas()) {
            py::dict row;
            row["name"] = info.name;
            row["platform"] = info.platform;
            row["base"] = info.isa == info.base ? py::object(py::none()) : py::str(isa_name(info.base));
            row["features"] = py::str(info.features).attr("split")();
            row["built"] = info.built;
            row["refusal"] = refusal(info.isa);
            rows.append(row);
        }
        return rows;
    });
    m.def("available_isas", [] {
        std::vector<std::string> names;
        for (Isa isa : available_isas()) names.emplace_back(isa_name(isa));
        return names;
    });
    m.def("default_isa", [] { return isa_name(default_isa()); });
    m.def("fastest_isa", [](const std::vector<std::string>& names, const std::string& vendor) {
        std::vector<Isa> isas;
        for (const IsaInfo& info : known_isas())
            if (std::find(names.begin(), names.end(), info.name) != names.end()) isas.push_back(info.isa);
        if (isas.empty()) throw std::invalid_argument("expected the names of instruction sets, at least one");
        return isa_name(fastest_isa(isas, vendor));
    });
    m.def("cpu_name", &cpu_name);
    m.def("cpu_vendor", &cpu_vendor);
}

}  // namespace qora
