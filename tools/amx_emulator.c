/* Carries out the tile instructions of AMX in C, for a program that is started with this library in LD_PRELOAD:
 * the CPU refuses them, Linux sends the illegal-instruction signal (SIGILL), and its handler computes what they
 * would have. On a CPU with AMX they are refused as well, since the permission to use tiles is never asked for;
 * but for LDTILECFG and TILERELEASE, whose effect is in the registers that Linux saves for the handler. A CPU
 * without it is asked for its features by the instruction CPUID, which is trapped too.
 *
 * Tiles that are used without being configured, and operands that do not fit each other, end the program. Linux
 * on x86-64; tools/test_amx.sh builds and uses it. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { kTiles = 8, kRows = 16, kRowBytes = 64 };
enum { kSetCpuid = 0x1012, kRequestPermission = 0x1023 }; /* of arch_prctl */
enum { kNoPrefix, k66, kF3, kF2 };                        /* the field pp of a VEX prefix */

typedef union {
    uint8_t bytes[kRowBytes];
    int8_t signed_bytes[kRowBytes];
    uint32_t dwords[kRowBytes / 4];
    int32_t ints[kRowBytes / 4];
    float floats[kRowBytes / 4];
} Row;

static __thread struct {
    uint8_t configuration[64];
    int palette, rows[kTiles], row_bytes[kTiles];
    Row tiles[kTiles][kRows];
} state;
static uint64_t carried_out;
/* Where a CPU with AMX has the configuration among saved registers, in bytes; 0 on others. */
static unsigned saved_configuration;

static _Noreturn void stop(const char *why) {
    fprintf(stderr, "amx_emulator: %s\n", why);
    abort();
}

static void load_configuration(const uint8_t *from) {
    memset(&state, 0, sizeof state);
    memcpy(state.configuration, from, sizeof state.configuration);
    state.palette = from[0];
    if (state.palette != 1 || from[1] != 0) stop("LDTILECFG of another palette than 1, or a start row");
    for (int t = 0; t < kTiles; ++t) {
        state.row_bytes[t] = from[16 + 2 * t] | from[17 + 2 * t] << 8;
        state.rows[t] = from[48 + t];
        if (state.row_bytes[t] > kRowBytes || state.rows[t] > kRows) stop("LDTILECFG of tiles too large");
    }
}

static void need_tile(int t) {
    if (state.palette == 0) stop("a tile is used outside of a range of work");
    if (state.rows[t] == 0 || state.row_bytes[t] == 0) stop("a tile is used that is not configured");
}

static void load_tile(int t, const uint8_t *from, int64_t stride) {
    need_tile(t);
    memset(state.tiles[t], 0, sizeof state.tiles[t]);
    for (int r = 0; r < state.rows[t]; ++r) memcpy(&state.tiles[t][r], from + r * stride, (size_t)state.row_bytes[t]);
}

static void store_tile(int t, uint8_t *to, int64_t stride) {
    need_tile(t);
    for (int r = 0; r < state.rows[t]; ++r) memcpy(to + r * stride, &state.tiles[t][r], (size_t)state.row_bytes[t]);
}

/* Denormals count as zeros, of operands and of results. */
static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
static float from_bf16(uint32_t bits) {
    float x;
    bits <<= 16;
    memcpy(&x, &bits, 4);
    return flushed(x);
}

static void multiply(int c, int a, int b, int bf16) {
    need_tile(c), need_tile(a), need_tile(b);
    if (c == a || c == b || a == b) stop("a product whose tiles are not three");
    const int steps = state.row_bytes[a] / 4, columns = state.row_bytes[c] / 4;
    if (state.rows[c] != state.rows[a] || state.row_bytes[c] != state.row_bytes[b] || steps != state.rows[b])
        stop("a product of tiles that do not fit each other");
    for (int m = 0; m < state.rows[c]; ++m) {
        Row *const sums = &state.tiles[c][m];
        float even[kRowBytes / 4] = {0}, odd[kRowBytes / 4] = {0};
        for (int k = 0; k < steps; ++k) {
            const Row *const left = &state.tiles[a][m], *const right = &state.tiles[b][k];
            for (int n = 0; n < columns; ++n) {
                if (bf16) {
                    const uint32_t x = left->dwords[k], y = right->dwords[n];
                    even[n] = flushed(fmaf(from_bf16(x & 0xffff), from_bf16(y & 0xffff), even[n]));
                    odd[n] = flushed(fmaf(from_bf16(x >> 16), from_bf16(y >> 16), odd[n]));
                } else {
                    for (int i = 0; i < 4; ++i)
                        sums->ints[n] += left->bytes[4 * k + i] * right->signed_bytes[4 * n + i];
                }
            }
        }
        for (int n = 0; bf16 && n < columns; ++n)
            sums->floats[n] = flushed(flushed(sums->floats[n]) + flushed(even[n] + odd[n]));
    }
}

/* What LDTILECFG and TILERELEASE have done since the last tile instruction, where the CPU does these. */
static void follow_configuration(const ucontext_t *context) {
    enum { kHeader = 512, kComponent = 17 };
    const uint8_t *const saved = (const uint8_t *)context->uc_mcontext.fpregs;
    uint64_t components;
    if (saved_configuration == 0) return;
    memcpy(&components, saved + kHeader, sizeof components);
    if (!(components >> kComponent & 1))
        memset(&state, 0, sizeof state);
    else if (memcmp(state.configuration, saved + saved_configuration, sizeof state.configuration) != 0)
        load_configuration(saved + saved_configuration);
}

static int64_t register_value(const ucontext_t *context, int number) {
    static const int kPlaces[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return context->uc_mcontext.gregs[kPlaces[number]];
}

/* Whether the bytes at the instruction pointer were a tile instruction: then it has been carried out. */
static int carry_out(ucontext_t *context) {
    greg_t *const rip = &context->uc_mcontext.gregs[REG_RIP];
    const uint8_t *const code = (const uint8_t *)*rip;
    /* A VEX prefix of three bytes: C4, RXB and the map 0F38, W0 vvvv L0 pp. Registers are stored inverted. */
    if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x84) != 0) return 0;
    const int prefix = code[2] & 3, third = ~(code[2] >> 3) & 15;
    const int index_high = code[1] & 0x40 ? 0 : 8, base_high = code[1] & 0x20 ? 0 : 8;
    const int opcode = code[3], mode = code[4] >> 6, reg = (code[4] >> 3) & 7, rm = code[4] & 7;
    const uint8_t *next = code + 5;

    /* The memory operand; `stride` is the index register times its scale. */
    int64_t address = 0, stride = 0;
    if (mode != 3) {
        int base = rm | base_high, has_base = 1;
        if (rm == 4) {
            const int sib = *next++, index = ((sib >> 3) & 7) | index_high;
            if (index != 4) stride = (int64_t)((uint64_t)register_value(context, index) << (sib >> 6));
            base = (sib & 7) | base_high;
            has_base = mode != 0 || (sib & 7) != 5;
        } else if (mode == 0 && rm == 5) {
            has_base = 0;
        }
        if (has_base) address = register_value(context, base);
        if (mode == 1) {
            address += (int8_t)*next++;
        } else if (mode == 2 || !has_base) {
            int32_t offset;
            memcpy(&offset, next, 4);
            next += 4;
            address += offset;
            if (!has_base && rm == 5) address += (int64_t)next;
        }
    }

    follow_configuration(context);
    if (opcode == 0x49 && prefix == kNoPrefix && mode != 3)
        load_configuration((const uint8_t *)(address + stride));
    else if (opcode == 0x49 && prefix == kNoPrefix && code[4] == 0xc0)
        memset(&state, 0, sizeof state); /* TILERELEASE */
    else if (opcode == 0x49 && prefix == kF2 && mode == 3 && rm == 0)
        need_tile(reg), memset(state.tiles[reg], 0, sizeof state.tiles[reg]); /* TILEZERO */
    else if (opcode == 0x4b && mode != 3 && (prefix == kF2 || prefix == k66))
        load_tile(reg, (const uint8_t *)address, stride);
    else if (opcode == 0x4b && mode != 3 && prefix == kF3)
        store_tile(reg, (uint8_t *)address, stride);
    else if (opcode == 0x5e && mode == 3 && prefix == k66)
        multiply(reg, rm, third, 0); /* TDPBUSD */
    else if (opcode == 0x5c && mode == 3 && prefix == kF3)
        multiply(reg, rm, third, 1); /* TDPBF16PS */
    else
        return 0;
    *rip = (greg_t)next;
    return 1;
}

/* What is none of ours happens again, without a handler. */
static void on_illegal_instruction(int signal_number, siginfo_t *info, void *context) {
    (void)info;
    if (carry_out(context))
        __atomic_add_fetch(&carried_out, 1, __ATOMIC_RELAXED);
    else
        signal(signal_number, SIG_DFL);
}

/* CPUID faults. The engine is told of tiles, everybody else the truth. */
static void on_fault(int signal_number, siginfo_t *info, void *untyped) {
    (void)info;
    ucontext_t *const context = untyped;
    greg_t *const registers = context->uc_mcontext.gregs;
    const uint8_t *const code = (const uint8_t *)registers[REG_RIP];
    if (info->si_code != SI_KERNEL || code[0] != 0x0f || code[1] != 0xa2) {
        signal(signal_number, SIG_DFL);
        return;
    }
    const unsigned leaf = (unsigned)registers[REG_RAX], subleaf = (unsigned)registers[REG_RCX];
    unsigned eax, ebx, ecx, edx;
    syscall(SYS_arch_prctl, kSetCpuid, 1);
    __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
    syscall(SYS_arch_prctl, kSetCpuid, 0);
    Dl_info caller;
    if (leaf == 7 && subleaf == 0 && dladdr(code, &caller) && strstr(caller.dli_fname, "/_core."))
        edx |= 1u << 22 | 1u << 24 | 1u << 25; /* amx_bf16, amx_tile, amx_int8 */
    registers[REG_RAX] = eax, registers[REG_RBX] = ebx, registers[REG_RCX] = ecx, registers[REG_RDX] = edx;
    registers[REG_RIP] += 2;
}

/* In place of the C library's: grants tiles without asking for them. */
long syscall(long number, ...) {
    static long (*original)(long, ...);
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; ++i) a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_arch_prctl && a[0] == kRequestPermission) return 0;
    if (original == NULL) *(void **)&original = dlsym(RTLD_NEXT, "syscall");
    return original(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void handle(int signal_number, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(signal_number, &action, NULL) != 0) stop("a signal cannot be handled");
}

__attribute__((constructor)) static void begin(void) {
    unsigned eax, ebx, ecx, edx;
    handle(SIGILL, on_illegal_instruction);
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx >> 24 & 1)) {
        __cpuid_count(13, 17, eax, saved_configuration, ecx, edx);
        return;
    }
    handle(SIGSEGV, on_fault);
    if (syscall(SYS_arch_prctl, kSetCpuid, 0) != 0) stop("CPUID cannot be trapped");
}

__attribute__((destructor)) static void end(void) {
    if (state.palette != 0 && saved_configuration == 0) stop("the process ends with tiles in use");
    if (carried_out != 0)
        fprintf(stderr, "amx_emulator: %llu tile instructions\n", (unsigned long long)carried_out);
}
