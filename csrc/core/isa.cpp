#include "core/isa.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <sstream>
#include <stdexcept>

#if defined(__x86_64__) || defined(_M_X64)
#define QORA_X86 1
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#define QORA_ARM64 1
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif
#endif

namespace qora {
namespace {

#if defined(QORA_X86)
struct CpuidRegisters {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidRegisters cpuid(uint32_t leaf, uint32_t subleaf) {
    CpuidRegisters r;
#if defined(_MSC_VER)
    int words[4];
    __cpuidex(words, static_cast<int>(leaf), static_cast<int>(subleaf));
    std::memcpy(&r, words, sizeof r);
#else
    __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
#endif
    return r;
}

// XCR0 tells which register files the operating system saves on a context switch.
uint64_t enabled_register_state() {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<uint64_t>(high) << 32) | low;
#endif
}

bool bit(uint32_t word, int index) { return (word >> index) & 1u; }

bool cpu_has_tiles() { return cpuid(0, 0).eax >= 7 && bit(cpuid(7, 0).edx, 24); }

// Linux saves the registers of tiles for a process that asks for it, whose signal handlers need larger stacks
// from then on. Asks once. The error that it answers with, 0 = none.
int ask_for_tiles() {
#if defined(__linux__)
    constexpr int kRequestPermission = 0x1023,
                  kTileData = 18;  // of the kernel's ABI: older headers lack them
    static const int error = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
    return error;
#else
    return ENOSYS;
#endif
}

// Whether the CPU has a feature and the operating system saves the registers that it uses.
bool has_feature(const std::string& name) {
    if (cpuid(0, 0).eax < 7) return false;
    const CpuidRegisters base = cpuid(1, 0), extended = cpuid(7, 0);
    const uint32_t more = extended.eax >= 1 ? cpuid(7, 1).eax : 0;
    const bool saves_state = bit(base.ecx, 27);
    const uint64_t state = saves_state ? enabled_register_state() : 0;
    const bool ymm = (state & 0x6) == 0x6 && bit(base.ecx, 28), zmm = ymm && (state & 0xe6) == 0xe6;
    if (name == "avx2") return ymm && bit(extended.ebx, 5);
    if (name == "fma") return ymm && bit(base.ecx, 12);
    if (name == "f16c") return ymm && bit(base.ecx, 29);
    if (name == "avx_vnni") return ymm && bit(more, 4);
    if (name == "avx512f") return zmm && bit(extended.ebx, 16);
    if (name == "avx512dq") return zmm && bit(extended.ebx, 17);
    if (name == "avx512bw") return zmm && bit(extended.ebx, 30);
    if (name == "avx512vl") return zmm && bit(extended.ebx, 31);
    if (name == "avx512_vnni") return zmm && bit(extended.ecx, 11);
    if (name == "avx512_bf16") return zmm && bit(more, 5);
    if (name == "amx_bf16") return bit(extended.edx, 22);
    if (name == "amx_tile") return cpu_has_tiles() && ask_for_tiles() == 0;
    if (name == "amx_int8") return bit(extended.edx, 25);
    return false;
}
#elif defined(QORA_ARM64)
#if defined(__APPLE__)
// macOS 11 does not know the names, but every Mac has the dot products.
bool system_has(const char* name, bool unknown) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? value != 0 : unknown;
}
bool has_dotprod() { return system_has("hw.optional.arm.FEAT_DotProd", true); }
bool has_bf16() { return system_has("hw.optional.arm.FEAT_BF16", false); }
#elif defined(__linux__)
// Bits of the kernel's ABI, spelled out because older headers lack them.
bool has_dotprod() { return (getauxval(AT_HWCAP) >> 20) & 1u; }
bool has_bf16() { return (getauxval(AT_HWCAP2) >> 14) & 1u; }
#elif defined(_WIN32)
bool has_dotprod() { return IsProcessorFeaturePresent(43); }  // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
bool has_bf16() { return false; }  // the table needs inline assembly, which MSVC lacks
#else
bool has_dotprod() { return false; }
bool has_bf16() { return false; }
#endif

bool has_feature(const std::string& name) {
    if (name == "asimd") return true;  // NEON is part of AArch64
    if (name == "asimddp") return has_dotprod();
    if (name == "bf16") return has_bf16();
    return false;
}
#else
bool has_feature(const std::string&) { return false; }
#endif

// Whether all features of an instruction set are there, those of the ones that it is based on aside.
bool has_features(const IsaInfo& info) {
    std::istringstream features(info.features);
    const std::istream_iterator<std::string> begin(features), end;
    return std::all_of(begin, end, has_feature);
}

// Instruction sets of this build whose features, and those of the ones that they are based on, the CPU has.
std::vector<Isa> detect_isas() {
    std::vector<Isa> found;
    const auto is_found = [&](Isa isa) { return std::find(found.begin(), found.end(), isa) != found.end(); };
    for (const IsaInfo& info : known_isas()) {
        const bool has_base = info.isa == info.base || is_found(info.base);
        if (info.built && has_base && has_features(info)) found.push_back(info.isa);
    }
    return found;
}

std::string available_names() {
    std::string names;
    for (Isa isa : available_isas()) names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
    return names;
}

}  // namespace

const std::vector<IsaInfo>& known_isas() {
#define QORA_ISA(isa, unit, platform, base, features) \
    {Isa::isa, #unit, #platform, Isa::base, features, QORA_ON_##platform(true ||) false},
    static const std::vector<IsaInfo> isas = {
#include "core/isas.inc"
    };
    return isas;
}

const char* isa_name(Isa isa) { return known_isas()[static_cast<size_t>(isa)].name; }

const std::vector<Isa>& available_isas() {
    static const std::vector<Isa> isas = detect_isas();
    return isas;
}

std::string refusal([[maybe_unused]] Isa isa) {
#if defined(QORA_X86) && defined(__linux__)
    if (isa == Isa::kAvx512Amx && cpu_has_tiles() && ask_for_tiles() != 0)
        return std::string("Linux does not grant the state of tiles: ") + std::strerror(ask_for_tiles());
#endif
    return "";
}

Isa parse_isa(const std::string& name) {
    for (const IsaInfo& info : known_isas()) {
        if (name != info.name) continue;
        for (Isa available : available_isas())
            if (available == info.isa) return info.isa;
        throw std::invalid_argument("instruction set '" + name +
                                    "' is not supported by this CPU; it has: " + available_names());
    }
    throw std::invalid_argument("unknown instruction set '" + name + "'; this CPU has: " + available_names());
}

Isa fastest_isa(const std::vector<Isa>& isas, const std::string& vendor) {
    const Isa last = isas.back();
    return last == Isa::kAvx512VnniBf16 && vendor == "GenuineIntel" ? Isa::kAvx512Vnni : last;
}

Isa default_isa() {
    // Resolved once: a change of the environment while the process runs has no effect.
    static const Isa isa = [] {
        const char* forced = std::getenv("QORA_VISION_ISA");
        if (forced == nullptr || *forced == '\0') return fastest_isa(available_isas(), cpu_vendor());
        try {
            return parse_isa(forced);
        } catch (const std::invalid_argument& error) {
            throw std::invalid_argument(std::string("QORA_VISION_ISA: ") + error.what());
        }
    }();
    return isa;
}

std::string cpu_vendor() {
#if defined(QORA_X86)
    const CpuidRegisters r = cpuid(0, 0);
    char name[13] = {};
    std::memcpy(name, &r.ebx, 4);
    std::memcpy(name + 4, &r.edx, 4);
    std::memcpy(name + 8, &r.ecx, 4);
    return name;
#else
    return "";
#endif
}

std::string cpu_name() {
#if defined(QORA_X86)
    if (cpuid(0x80000000u, 0).eax < 0x80000004u) return "";
    char brand[49] = {};
    for (uint32_t i = 0; i < 3; ++i) {
        const CpuidRegisters r = cpuid(0x80000002u + i, 0);
        std::memcpy(brand + 16 * i, &r, 16);
    }
    const std::string name(brand);
    const size_t first = name.find_first_not_of(' '), last = name.find_last_not_of(' ');
    return first == std::string::npos ? "" : name.substr(first, last - first + 1);
#elif defined(__APPLE__)
    char brand[128] = {};
    size_t size = sizeof brand - 1;
    return sysctlbyname("machdep.cpu.brand_string", brand, &size, nullptr, 0) == 0 ? brand : "";
#else
    return "";
#endif
}

}  // namespace qora
