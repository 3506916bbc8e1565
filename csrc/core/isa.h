// Which instruction sets this CPU and operating system can run.
#pragma once

#include <string>
#include <vector>

namespace qora {

// Ordered from the plainest to the most capable on each platform. A CPU need not have all that come before.
enum class Isa {
    kScalar,
    // x86-64
    kAvx2,
    kAvxVnni,
    kAvx512,
    kAvx512Vnni,
    kAvx512VnniBf16,
    // AArch64
    kNeon,
    kNeonDotprod,
    kNeonDotprodBf16,
};

const char* isa_name(Isa isa);

// Instruction sets with a kernel table in this build that this CPU can execute, plainest first.
const std::vector<Isa>& available_isas();

// Parses a name such as "avx2". Throws std::invalid_argument when the name is unknown or the CPU lacks it.
Isa parse_isa(const std::string& name);

// The instruction set used unless an op is told otherwise: QORA_VISION_ISA when set, else the most capable.
Isa default_isa();

// Brand string of the CPU, empty where it cannot be read.
std::string cpu_name();

}  // namespace qora
