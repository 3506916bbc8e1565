// Which instruction sets this CPU and operating system can run.
#pragma once

#include <string>
#include <vector>

// QORA_ON_<platform of core/isas.inc>(code) is the code in builds for that platform, and nothing in others.
#define QORA_ON_ANY(code) code
#if defined(__x86_64__) || defined(_M_X64)
#define QORA_ON_X86(code) code
#else
#define QORA_ON_X86(code)
#endif
#if defined(__x86_64__) && defined(__linux__)
#define QORA_ON_X86_LINUX(code) code
#else
#define QORA_ON_X86_LINUX(code)
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define QORA_ON_ARM64(code) code
#else
#define QORA_ON_ARM64(code)
#endif
#if defined(__aarch64__) && (!defined(_MSC_VER) || defined(__clang__))
#define QORA_ON_ARM64_GNU(code) code
#else
#define QORA_ON_ARM64_GNU(code)
#endif

namespace qora {

// Ordered from the plainest to the most capable on each platform. A CPU need not have all that come before.
enum class Isa {
#define QORA_ISA(isa, unit, platform, base, features) isa,
#include "core/isas.inc"
};

// A row of core/isas.inc.
struct IsaInfo {
    Isa isa;
    const char* name;
    const char* platform;
    Isa base;
    const char* features;  // separated by spaces
    bool built;            // whether this build has its kernel table
};

// All rows, in the order of Isa.
const std::vector<IsaInfo>& known_isas();

const char* isa_name(Isa isa);

// Why the operating system keeps an instruction set that this CPU has from us; empty where it does not.
std::string refusal(Isa isa);

// Instruction sets with a kernel table in this build that this CPU can execute, plainest first.
const std::vector<Isa>& available_isas();

// Parses a name such as "avx2". Throws std::invalid_argument when the name is unknown or the CPU lacks it.
Isa parse_isa(const std::string& name);

// The fastest of several instruction sets, simplest first, on a CPU of this vendor (CPUID's name): the most
// capable one, except avx512_vnni_bf16 on Intel's CPUs. There vdpbf16ps takes twice the time that it takes on
// AMD's, and VNNI alone is faster (docs/kernels/measurements.md).
Isa fastest_isa(const std::vector<Isa>& isas, const std::string& vendor);

// The instruction set used unless an op is told otherwise: QORA_VISION_ISA when set, else the fastest.
Isa default_isa();

// CPUID's name of the vendor, such as "GenuineIntel"; empty on other architectures.
std::string cpu_vendor();

// Brand string of the CPU, empty where it cannot be read.
std::string cpu_name();

}  // namespace qora
