#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/tables.h"

namespace qora {
namespace {

const Primitive& primitive_named(const PrimitiveTable& table, const std::string& name) {
    const Primitive* const end = table.primitives + table.count;
    const auto* found =
        std::find_if(table.primitives, end, [&](const Primitive& p) { return name == p.name; });
    if (found == end) throw std::invalid_argument("_primitive: there is no '" + name + "'");
    return *found;
}

}  // namespace

void bind_primitives(py::module_& m) {
    // {"width", "words_of_bytes", "names"} of an instruction set's vector wrapper.
    m.def("_primitives", [](const std::string& isa) {
        const PrimitiveTable& table = *table_named(isa).primitives;
        py::list names;
        for (int i = 0; i < table.count; ++i) names.append(table.primitives[i].name);
        py::dict info;
        info["width"] = table.width;
        info["words_of_bytes"] = table.words_of_bytes;
        info["names"] = names;
        return info;
    });
    // Only for tests: sizes are not checked. Operands are contiguous arrays of the values that the operation
    // reads; b is copied to memory that is aligned like a panel.
    m.def(
        "_primitive",
        [](const std::string& isa, const std::string& name, const py::array& a, const py::array& b,
           const py::array& c, int n, py::array out) {
            const Primitive& primitive = primitive_named(*table_named(isa).primitives, name);
            Buffer aligned(static_cast<size_t>(b.nbytes()));
            std::memcpy(aligned.data(), b.data(), static_cast<size_t>(b.nbytes()));
            primitive.run({a.data(), aligned.data(), c.data(), n, out.mutable_data()});
        },
        py::arg("isa"), py::arg("name"), py::arg("a"), py::arg("b"), py::arg("c"), py::arg("n"),
        py::arg("out"));
}

}  // namespace qora
