// Kernel tables and operand families by their names in Python.
#pragma once

#include <string>

#include "kernels/kernel_table.h"

namespace qora {

// In the order of Family.
constexpr const char* kFamilyNames[kNumFamilies] = {"f32", "bf16", "i16", "i8", "q4"};
inline const char* family_name(Family family) { return kFamilyNames[index_of(family)]; }

// Throws std::invalid_argument for any other name. `op` names the caller.
Family parse_family(const char* op, const std::string& name);

// The table of an instruction set that this CPU has. For the tests, "padded:" before the name means the same
// table with the largest step multiple for each family, and with hooks that count ranges of work.
const KernelTable& table_named(const std::string& isa);

}  // namespace qora
