// The contract between ops and kernels: one POD of function pointers per instruction set, each beside its
// tile geometry. Ops read the geometry from the table and never name an instruction set.
//
// Every dot product works on dwords: one float32, two bf16, two int16, or four int8. An A operand is a row of
// dwords along the reduction, a B operand a panel [steps][nr] of dwords (nr columns side by side for each
// step), so one tile shape serves weights, keys and values of every operand type. Panels of the q4 family
// have one more row of dwords behind every kGroupSteps steps: what these are to be multiplied with.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qora {

// Operand types of a dot-product tile. Accumulators are float32 for the first two, int32 for the others. i8
// and q4 have the same left operand.
enum class Family : uint8_t { kF32, kBf16, kI16, kI8, kQ4 };
constexpr int kNumFamilies = 5;

// Values in a dword.
constexpr int family_kr(Family f) {
    return f == Family::kF32 ? 1 : f == Family::kI8 || f == Family::kQ4 ? 4 : 2;
}
constexpr int family_bytes(Family f) { return 4 / family_kr(f); }
constexpr bool family_is_integer(Family f) { return f != Family::kF32 && f != Family::kBf16; }

// Quantised weights come in groups along the input, with one scale each.
constexpr int64_t kGroupSize = 32;
constexpr int64_t kGroupSteps = kGroupSize / 4;

// Bytes of a panel's `steps` steps (q4: whole groups) as a right operand.
constexpr int64_t operand_bytes(Family f, int64_t steps, int64_t nr) {
    return (steps + (f == Family::kQ4 ? steps / kGroupSteps : 0)) * nr * 4;
}

// Attention in the i16 family. A weight of 1 is 2^14, so the weights of 128 keys sum to at most 2^21, which
// leaves values ten bits of magnitude in an int32 accumulator.
constexpr int kI16WeightBits = 14;
constexpr int kI16ValueLimit = (1 << 10) - 1;
constexpr int kI16ProductKeys = 128;

// Stands for "no score yet" in a running maximum; finite, because 2^x is not asked for infinities.
constexpr float kNoScore = -1e30f;

// No tile has more rows.
constexpr int kMaxTileRows = 16;

enum class Activation : uint8_t { kNone, kGelu, kGeluTanh };

// x = scale * (q - zero_point). Float families leave it at {1, 0}.
struct RowScale {
    float scale;
    int32_t zero_point;
};

// C[rows][nr] = A · B (+ C when accumulate). Rows of A and C are a_stride and c_stride bytes apart.
// 1 <= rows <= mr; b is aligned to 64 bytes; q4: whole groups of steps.
using TileFn = void (*)(const void* a, ptrdiff_t a_stride, const void* b, int64_t steps, int rows, void* c,
                        ptrdiff_t c_stride, bool accumulate);

// Turns `groups` groups of a stored q4 panel into a right operand. Stored, for each group: 4 rows of nr
// dwords whose low nibbles are the bytes of an even step and whose high nibbles those of the odd step behind
// it, biased by 8; then the nr int16 multipliers of the group.
using ExpandFn = void (*)(const uint8_t* panel, int64_t groups, uint8_t* operand);
constexpr int64_t stored_group_bytes(int64_t nr) { return nr * (kGroupSize / 2 + 2); }

// Turns n float32 values into n_padded operand values (the rest zero). y is aligned to 64 bytes, n_padded a
// multiple of 16. i8: bytes with a zero point, the range of the row and zero mapped to 0..255 or, where the
// table's instructions take signed bytes, to -128..127 (q = round(x / scale) + zero_point; only the table's
// own tiles read them). i16: |q| <= limit. The float families ignore `limit`.
using EncodeRowFn = void (*)(const float* x, int64_t n, int64_t n_padded, int limit, void* y,
                             RowScale* scale);

// out[r][c] = act(dequantise(acc) + bias) + residual, for a tile of accumulators.
struct EpilogueArgs {
    const void* acc;  // float32 or int32, row stride acc_stride elements
    ptrdiff_t acc_stride;
    int rows, cols;
    bool integer;  // int32 accumulators: value = (acc - zero_point * col_sum) * row scale * col scale
    const RowScale* row_scale;  // [rows], read when integer
    const float* col_scale;     // [cols], read when integer
    const int32_t* col_sum;     // [cols], read when integer
    const float* bias;          // [cols] or null
    Activation activation;
    const float* residual;      // [rows][cols] float32 or null; may be `out`
    ptrdiff_t residual_stride;  // elements
    void* out;                  // float32, or bf16 when out_bf16
    ptrdiff_t out_stride;       // elements
    bool out_bf16;
};

// One block of keys of streaming attention for a few query rows. Weights are taken relative to the block's
// own maximum and rescaled when they are merged, so that integer weights keep their precision in every block.
struct SoftmaxArgs {
    const void* scores;  // accumulators of Q·K, row stride score_stride elements
    ptrdiff_t score_stride;
    int rows, keys, keys_padded;  // weights of keys..keys_padded become next to nothing
    const float* row_scale;       // [rows], > 0: accumulator times this = score in units of log2
    void* weights;                // operand values of the family, row stride weight_stride bytes
    ptrdiff_t weight_stride;
    float* running_max;  // [rows] in units of log2, kNoScore before the first block
    float* running_sum;  // [rows]
    float* keep;         // [rows] out: factor of what was accumulated before this block
    float* gain;         // [rows] out: factor of this block's accumulators
};
using SoftmaxFn = void (*)(const SoftmaxArgs&);

// out[r][c] = out[r][c] * keep[r] + acc[r][c] * gain[r]
struct MergeArgs {
    const void* acc;
    ptrdiff_t acc_stride;
    int rows, cols;
    bool integer;
    const float* keep;
    const float* gain;
    float* out;
    ptrdiff_t out_stride;
};

// One time step of the RG-LRU (De et al. 2024, "Griffin", section 2.4) for the channels of a row:
// keep = 2^(decay * sigmoid(decay_gate)), state = keep * state + sqrt(1 - keep²) * sigmoid(input_gate) * x,
// out = state * branch. The first step of a sequence takes keep = 0 and a factor of 1.
struct RecurrenceArgs {
    const float* x;
    const float* input_gate;  // before their sigmoids
    const float* decay_gate;
    const float* decay;   // <= 0, in units of log2
    const float* branch;  // what the state is multiplied with on its way out
    float* state;
    float* out;
    int64_t n;
    bool fresh;  // the first step: `state` is written only
};

struct FamilyKernels {
    TileFn tile;
    int mr;  // rows of a tile
    EncodeRowFn encode_row;
    SoftmaxFn softmax;  // null for i8 and q4: attention weights need more than eight bits
    ExpandFn expand;    // null where panels are stored as operands
};

struct KernelTable {
    int nr;  // columns of every tile, a multiple of 16
    FamilyKernels family[kNumFamilies];

    // What compute="auto" uses: for weights of four and of eight bits, for f16/f32 weights, and for
    // attention.
    Family auto_q4, auto_q8, auto_float, auto_attention;

    // y = (x - mean) / sqrt(var + eps) * gamma + beta, biased variance. y may be x.
    void (*layer_norm)(const float* x, int64_t n, const float* gamma, const float* beta, float eps, float* y);
    void (*epilogue)(const EpilogueArgs&);
    void (*merge)(const MergeArgs&);
    void (*bf16_to_f32)(const uint16_t* x, int64_t n, float* y);
    // y[i] = x[i] * factor[i], stored as float32 or bf16.
    void (*scale_row)(const float* x, const float* factor, int64_t n, void* y, bool out_bf16);
    // y[i] = round(x[i] * factor[i]).
    void (*scale_to_i16)(const float* x, const float* factor, int64_t n, int16_t* y);
    // m[i] = max(m[i], |x[i]|)
    void (*abs_max)(const float* x, int64_t n, float* m);
    // y = x / sqrt(mean(x²) + eps) * gamma. y may be x.
    void (*rms_norm)(const float* x, int64_t n, const float* gamma, float eps, float* y);
    // y[i] = bias[i] + sum over taps of weight[tap][i] * taps[tap][i].
    void (*causal_conv)(const float* const* taps, int count, const float* weight, const float* bias,
                        int64_t n, float* y);
    void (*gated_recurrence)(const RecurrenceArgs&);
};

const KernelTable& scalar_table() noexcept;
const KernelTable& avx2_table() noexcept;
const KernelTable& avx_vnni_table() noexcept;
const KernelTable& avx512_table() noexcept;
const KernelTable& avx512_vnni_table() noexcept;
const KernelTable& avx512_vnni_bf16_table() noexcept;
const KernelTable& neon_table() noexcept;
const KernelTable& neon_dotprod_table() noexcept;
const KernelTable& neon_dotprod_bf16_table() noexcept;

}  // namespace qora
