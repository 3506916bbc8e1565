#include "bindings/tables.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <stdexcept>

#include "bindings/bindings.h"
#include "kernels/dispatch.h"
#include "ops/attention/streaming.h"
#include "ops/linear/row_products.h"
#include "ops/peak.h"

namespace py = pybind11;

namespace qora {
namespace {

constexpr const char* kPaddedPrefix = "padded:";

std::atomic<int64_t> entered_ranges{0}, left_ranges{0};

// Hooks that count, and then call those of the table.
template <Isa kIsa>
void enter_counted() {
    ++entered_ranges;
    if (const auto enter = kernel_table(kIsa).enter_range) enter();
}
template <Isa kIsa>
void leave_counted() {
    ++left_ranges;
    if (const auto leave = kernel_table(kIsa).leave_range) leave();
}
struct Hooks {
    void (*enter)();
    void (*leave)();
};
constexpr Hooks kCountedHooks[] = {
#define QORA_ISA(isa, unit, platform, base, features) {enter_counted<Isa::isa>, leave_counted<Isa::isa>},
#include "core/isas.inc"
};

const KernelTable& padded_table(Isa isa) {
    static std::mutex mutex;
    static std::map<Isa, KernelTable> tables;  // references to its values stay valid
    const std::lock_guard<std::mutex> lock(mutex);
    const auto [found, is_new] = tables.try_emplace(isa, kernel_table(isa));
    KernelTable& table = found->second;
    if (is_new) {
        for (FamilyKernels& family : table.family) family.step_multiple = kMaxStepMultiple;
        table.enter_range = kCountedHooks[static_cast<size_t>(isa)].enter;
        table.leave_range = kCountedHooks[static_cast<size_t>(isa)].leave;
    }
    return table;
}

// {name of a family: value} for all families.
template <class Value>
py::dict by_family(const Value& value) {
    py::dict values;
    for (int i = 0; i < kNumFamilies; ++i) values[kFamilyNames[i]] = value(static_cast<Family>(i));
    return values;
}

py::dict table_info(const std::string& isa) {
    const KernelTable& t = table_named(isa);
    const auto kernels = [&](Family f) -> const FamilyKernels& { return t.family[index_of(f)]; };
    py::dict info;
    info["nr"] = t.nr;
    info["mr"] = by_family([&](Family f) { return kernels(f).mr; });
    info["kr"] = by_family(family_kr);
    info["step_multiple"] = by_family([&](Family f) { return kernels(f).step_multiple; });
    info["group_size"] = kGroupSize;
    info["max_tile_rows"] = kMaxTileRows;
    info["max_tile_columns"] = kMaxTileColumns;
    info["max_step_multiple"] = kMaxStepMultiple;
    info["auto_q4"] = family_name(t.auto_q4);
    info["auto_q8"] = family_name(t.auto_q8);
    info["auto_float"] = family_name(t.auto_float);
    info["auto_attention"] = family_name(t.auto_attention);
    info["int8_attention"] = family_name(t.int8_attention);
    info["i8_zero_point"] = t.i8_zero_point;
    info["linear_block_rows"] = by_family([&](Family f) { return max_block_rows(kernels(f)); });
    info["linear_slice_steps"] = slice_steps(t);
    info["attention_block_queries"] = kBlockQueries;
    info["attention_block_keys"] = by_family([&](Family f) { return max_block_keys(t, f); });
    info["i16_product_keys"] = kI16ProductKeys;
    return info;
}

}  // namespace

Family parse_family(const char* op, const std::string& name) {
    for (int i = 0; i < kNumFamilies; ++i)
        if (name == kFamilyNames[i]) return static_cast<Family>(i);
    throw std::invalid_argument(std::string(op) + ": unknown operand family '" + name +
                                "'; expected f32, bf16, i16, i8 or q4");
}

const KernelTable& table_named(const std::string& isa) {
    const std::string prefix = kPaddedPrefix;
    if (isa.compare(0, prefix.size(), prefix) != 0) return kernel_table(parse_isa(isa));
    return padded_table(parse_isa(isa.substr(prefix.size())));
}

void bind_tables(py::module_& m) {
    m.def("table_info", &table_info, py::arg("isa"));
    m.def("_range_counts", [] { return py::make_tuple(entered_ranges.load(), left_ranges.load()); });

    m.def(
        "tile_peak",
        [](const std::string& isa, const std::string& family, int threads) {
            const KernelTable& table = table_named(isa);
            const Family operands = parse_family("tile_peak", family);
            py::gil_scoped_release released;
            return tile_peak(table, operands, threads);
        },
        py::arg("isa"), py::arg("family"), py::arg("threads") = 0);

    m.def("memory_peak", &memory_peak, py::call_guard<py::gil_scoped_release>(), py::arg("threads") = 0);
}

}  // namespace qora
