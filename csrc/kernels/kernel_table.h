// The contract between ops and kernels: for each instruction set a struct of function pointers and the tile
// geometry that they expect. Ops read the geometry from the table and never name an instruction set.
//
// Every dot product works on dwords: one float32, two bf16, two int16, or four int8. An A operand is a row of
// dwords along the reduction, a B operand a panel [steps][nr] of dwords (nr columns side by side for each
// step). So one tile shape serves weights, keys and values of every operand type. Panels of the q4 family
// have one more row of dwords after every kGroupSteps steps: the multipliers of these steps.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/primitives.h"

namespace qora {

// Operand types of a dot-product tile. Accumulators are float32 for the first two, int32 for the others. i8
// and q4 have the same left operand.
enum class Family : uint8_t { kF32, kBf16, kI16, kI8, kQ4 };
constexpr int kNumFamilies = 5;
constexpr int index_of(Family f) { return static_cast<int>(f); }

// Values in a dword.
constexpr int family_kr(Family f) {
    return f == Family::kF32 ? 1 : f == Family::kI8 || f == Family::kQ4 ? 4 : 2;
}
constexpr int family_bytes(Family f) { return 4 / family_kr(f); }
constexpr bool family_is_integer(Family f) { return f != Family::kF32 && f != Family::kBf16; }

// Quantised weights come in groups along the input, with one scale each.
constexpr int64_t kGroupSize = 32;
constexpr int64_t kGroupSteps = kGroupSize / 4;

// Bytes of `steps` steps of a panel (q4: whole groups) as a right operand.
constexpr int64_t operand_bytes(Family f, int64_t steps, int64_t nr) {
    return (steps + (f == Family::kQ4 ? steps / kGroupSteps : 0)) * nr * 4;
}

// Attention in bf16 rounds distances of scores to steps of 2^-kBf16ScoreBits octaves (units of log2).
constexpr int kBf16ScoreBits = 10;

// Attention in the i16 family. Scores are counted in steps of 2^-kI16ScoreBits octaves. The largest weight of
// a block is kI16WeightOne, so that 128 of them times values up to kI16ValueLimit fit an int32 accumulator,
// and so does any number of smaller ones whose sum is at most kI16WeightSum.
constexpr int kI16ScoreBits = 11;
constexpr int kI16WeightOne = 11584;
constexpr int kI16ValueLimit = 1448;
constexpr int kI16ProductKeys = 128;
constexpr int kI16WeightSum = INT32_MAX / kI16ValueLimit;
static_assert(kI16ProductKeys * kI16WeightOne <= kI16WeightSum, "a product of weights and values overflows");

// The same in the i8 family. Keys and values are bytes up to kI8Limit.
constexpr int kI8ScoreBits = 10;
constexpr int kI8Limit = 127;

// Scores and exponents are in units of log2: 2^x is cheaper than e^x.
constexpr float kLog2E = 1.44269504088896f;

// The value of a running maximum without any score yet. It is finite, because 2^x does not handle infinities.
constexpr float kNoScore = -1e30f;

// Limits of a tile's geometry, checked when a table is compiled. The columns divide kMaxTileColumns and are a
// multiple of kMinTileColumns, so that blocks of kMaxTileColumns columns are whole panels, and panels are
// whole blocks of kMinTileColumns.
constexpr int kMaxTileRows = 16;
constexpr int kMinTileColumns = 16, kMaxTileColumns = 64;

// A family may need the steps of its operands padded to a multiple, for matrix instructions that multiply
// several steps at once. The multiple divides kMaxStepMultiple, so that padding rows to 64 values is enough.
constexpr int kMaxStepMultiple = 16;
static_assert(kMaxStepMultiple * 4 <= 64 && kMaxStepMultiple % kGroupSteps == 0);

enum class Activation : uint8_t { kNone, kGelu, kGeluTanh };

// x = scale * (q - zero_point). Float families leave it at {1, 0}.
struct RowScale {
    float scale;
    int32_t zero_point;
};

// Memory to prefetch, which is needed after a tile: `step_bytes` bytes for each step of the tile, from
// `begin` on. If its loop has room, the tile requests a line with each step: requests all at once would fill
// the buffers of the core.
struct PrefetchHint {
    const uint8_t* begin;
    ptrdiff_t step_bytes;
};

// The initial sums of a tile: rows `stride` bytes apart, C itself or other memory; null = zeros.
struct InitialSums {
    const void* rows;
    ptrdiff_t stride;
};

// C[rows][nr] = initial + A · B.
struct TileArgs {
    const void* a;
    ptrdiff_t a_stride;  // bytes from row to row
    const void* b;       // a panel, aligned to 64 bytes
    int64_t steps;       // a multiple of the family's step_multiple
    int rows;            // 1 <= rows <= mr
    void* c;
    ptrdiff_t c_stride;  // bytes from row to row
    InitialSums initial;
    PrefetchHint prefetch;
};
using TileFn = void (*)(const TileArgs&);

// Converts `groups` groups of a stored q4 panel to a right operand. Each stored group has 4 rows of nr
// dwords, whose low nibbles are the bytes of an even step and whose high nibbles are those of the next step,
// biased by 8; then the nr int16 multipliers of the group.
using ExpandFn = void (*)(const uint8_t* panel, int64_t groups, uint8_t* operand);
constexpr int64_t stored_group_bytes(int64_t nr) { return nr * (kGroupSize / 2 + 2); }

// The most rows that row kernels process together.
constexpr int kMaxRowsTogether = 4;

// Converts rows of n float32 values to contiguous rows of n_padded operand values (the rest zero). y is
// aligned to 64 bytes, n_padded a multiple of 64. i8: bytes with a zero point, the range of the row and zero
// mapped to 0..255 or, where the table's instructions take signed bytes, to -128..127 (q = round(x / scale) +
// zero_point; only the table's own tiles read them).
using EncodeRowsFn = void (*)(const float* const* x, int count, int64_t n, int64_t n_padded, void* y,
                              RowScale* scales);

// out[r][c] = act(dequantise(acc) + bias) + residual, for the accumulators of some rows and a panel.
struct EpilogueArgs {
    const void* acc;  // float32 or int32, row stride acc_stride elements
    ptrdiff_t acc_stride;
    int rows, cols;
    bool integer;  // int32 accumulators: value = (acc - zero_point * col_sum) * row scale * col scale
    const RowScale* row_scale;  // [rows], read when integer
    const float* col_scale;     // [cols], read when integer
    const float* col_sum;       // [cols], whole numbers, read when integer
    const float* bias;          // [cols]
    Activation activation;
    const float* residual;      // [rows][cols] float32 or null; may be `out`
    ptrdiff_t residual_stride;  // elements
    void* out;                  // float32, or bf16 when out_bf16
    ptrdiff_t out_stride;       // elements
    bool out_bf16;
};

// One block of keys of streaming attention for a few query rows. Integer weights are relative to the block's
// own maximum and are rescaled by the merge, so that they keep their precision in every block. Float weights
// are relative to the same reference as in the blocks before, unless a score is far above it.
struct SoftmaxArgs {
    const void* scores;  // accumulators of Q·K, row stride score_stride elements; behind the last key up to
                         // a whole panel: those of any keys
    ptrdiff_t score_stride;
    int rows, keys;
    const float* row_scale;  // [rows], > 0: accumulator times this = score in units of log2
    // [rows], i16: accumulator >> this = score in steps of 2^-kI16ScoreBits. i8: that times row_factor / 2^15
    // is one in steps of 2^-kI8ScoreBits.
    const int32_t* row_shift;
    const int16_t* row_factor;  // [rows], i8 only
    void* weights;              // operand values of the family, row stride weight_stride bytes
    ptrdiff_t weight_stride;
    float* weight_sum;   // [rows] out: sum of the block's weights, in units of what is stored
    bool first;          // the first block
    float* reference;    // [rows] the reference of accumulated weights, in units of log2; initially kNoScore
    float* running_sum;  // [rows] of weights; initially 0
    float* keep;         // [rows] out: factor of what was accumulated before this block
    float* gain;         // [rows] out: factor of this block's accumulators
};
// Returns true if the block's accumulators are added without factors. keep and gain are not written then.
using SoftmaxFn = bool (*)(const SoftmaxArgs&);

// Adds bias and mask to scores before their softmax. Afterwards a score of the float families is in units of
// log2. A score of i16 is in steps of 2^-kI16ScoreBits if row_shift >= 0, else in units of 2^-row_shift such
// steps.
struct ScoreBiasArgs {
    void* scores;  // accumulators of Q·K, changed in place, row stride score_stride elements
    ptrdiff_t score_stride;
    int rows, columns;         // columns: whole panels
    int first;                 // their first column in a row of bias or mask
    const float* row_scale;    // [rows], float families: accumulator times this = score in units of log2
    const int32_t* row_shift;  // [rows], i16: accumulator >> this = score in steps of 2^-kI16ScoreBits
    const void* const* bias;   // [rows] rows of float32 in units of log2, or (i16) of int32 steps
    const void* const* mask;   // [rows] likewise, or null
};
using ScoreBiasFn = void (*)(const ScoreBiasArgs&);

// out[r][c] = out[r][c] * keep[r] + (sum of acc[part][r][c] over parts) * gain[r]; without out in the first
// block.
struct MergeArgs {
    const void* acc;
    int parts;                // i16: those of a block whose weights are too large for one sum, else 1
    ptrdiff_t part_stride;    // elements
    const float* weight_sum;  // [rows], read where there are several parts
    ptrdiff_t acc_stride;
    int rows, cols;
    bool integer, first;
    const float* keep;
    const float* gain;
    float* out;
    ptrdiff_t out_stride;
};

// One time step of the RG-LRU (De et al. 2024, "Griffin", section 2.4) for the channels of a row: keep =
// 2^(decay * sigmoid(decay_gate)), state = keep * state + sqrt(1 - keep²) * sigmoid(input_gate) * x, out =
// state * branch. The first step of a sequence has keep = 0, and the factor 1 in place of sqrt(1 - keep²).
struct RecurrenceArgs {
    const float* x;
    const float* input_gate;  // before their sigmoids
    const float* decay_gate;
    const float* decay;   // <= 0, in units of log2
    const float* branch;  // multiplies the state in the output
    float* state;
    float* out;
    int64_t n;
    bool fresh;  // the first step: `state` is written only
};

// One head of a short sequence: out = softmax(q kᵀ) v, all in float32. Rows of queries, values and results
// have `padded` values, a multiple of 16, and are zero after the head's own. Keys are transposed: head_dim
// rows of `keys_padded` values, a multiple of 16 as well.
struct ShortAttentionArgs {
    const float *q, *k, *v;
    int64_t queries, keys, keys_padded, head_dim, padded;
    float scale;     // of a score, in units of log2
    float* weights;  // scratch: kShortRows rows of keys_padded
    float* out;      // [queries][padded]
};
// Queries that short_attention processes together.
constexpr int kShortRows = 4;

// Packs n channels of rows of values, from `first` on, as steps of a right operand: panel[row / kr][channel -
// first] holds kr rows of a channel. i16 multiplies by factors[channel]; i8 subtracts offsets[channel] first.
// Columns up to nr and rows after the last one are zero.
using PackStepsFn = void (*)(const float* const* rows, int count, int64_t first, int64_t n,
                             const float* offsets, const float* factors, uint8_t* panel, int64_t nr);

// The kernels of one operand family, and the geometry that they expect.
struct FamilyKernels {
    int mr;             // rows of a tile
    int step_multiple;  // steps of both operands are a multiple of it, padded with zeros; q4: kGroupSteps
    TileFn tile;
    TileFn half_tile;          // of nr / 2 columns, for values of short heads; null for q4
    EncodeRowsFn encode_rows;  // null for i16, whose scales attention chooses
    ExpandFn expand;           // null where panels are stored as operands
    SoftmaxFn softmax;         // null for q4
    ScoreBiasFn add_bias;      // null for i8 and q4
    PackStepsFn pack_steps;    // null for q4
    // The column of a panel of keys that holds its i-th key, so that weights are stored in the order of the
    // keys.
    int (*key_column)(int i);
};

struct KernelTable {
    const PrimitiveTable* primitives;  // the vector wrapper of the unit, for tests
    int nr;                            // columns of every tile
    FamilyKernels family[kNumFamilies];

    // Hooks that each thread calls before and after it calls kernels for a range of work, for instruction
    // sets whose state has to be configured (tiles of AMX, streaming mode of SME). Null = nothing to do.
    void (*enter_range)();
    void (*leave_range)();

    // What compute="auto" uses: for weights of four and of eight bits, for f16 and f32 weights, and for
    // attention; and what compute="int8" uses for attention.
    Family auto_q4, auto_q8, auto_float, auto_attention, int8_attention;

    // Zero point of i8 queries: 128 or, where the table's instructions take signed bytes on the left, 0.
    int i8_zero_point;

    // For each row y = (x - mean) / sqrt(var + eps) * gamma + beta, biased variance, or, where beta is null,
    // y = x / sqrt(mean(x²) + eps) * gamma. y may be x.
    void (*norm_rows)(const float* const* x, int count, int64_t n, const float* gamma, const float* beta,
                      float eps, float* const* y);
    void (*epilogue)(const EpilogueArgs&);
    void (*merge)(const MergeArgs&);
    void (*bf16_to_f32)(const uint16_t* x, int64_t n, float* y);
    // y[i] = x[i] * factors[i] * factor + offsets[i], stored as float32 or bf16.
    void (*scale_row)(const float* x, const float* factors, float factor, const float* offsets, int64_t n,
                      void* y, bool out_bf16);
    // y[r][i] = round(rows[r][i] * factors[r]), rows of y `stride` apart; up to a vector after n is written.
    void (*scale_to_i16)(const float* const* rows, int count, int64_t n, const float* factors, int16_t* y,
                         int64_t stride);
    // y[r][i] = round((rows[r][i] - offsets[i]) * factors[r]), likewise; sums[r] = the sum of y[r].
    void (*scale_to_i8)(const float* const* rows, int count, int64_t n, const float* offsets,
                        const float* factors, int8_t* y, int64_t stride, int32_t* sums);
    // y[r] = sqrt(sum of rows[r][i]^2), NaN when a rows[r][i] is not finite.
    void (*norms)(const float* const* rows, int count, int64_t n, float* y);
    // y[r] = max |rows[r][i]|, likewise NaN.
    void (*largest)(const float* const* rows, int count, int64_t n, float* y);
    // low[i] = min(low[i], rows[r][i]) and high[i] = max(high[i], rows[r][i]) over all rows; both NaN once a
    // rows[r][i] is not finite.
    void (*ranges)(const float* const* rows, int count, int64_t n, float* low, float* high);
    // panel[step][r] = rows[r][step], dwords: rows become columns of a panel nr wide.
    void (*transpose)(const uint8_t* const* rows, int count, int64_t steps, uint8_t* panel, int64_t nr);
    // y[i] = bias[i] + sum over taps of weight[tap][i] * taps[tap][i].
    void (*causal_conv)(const float* const* taps, int count, const float* weight, const float* bias,
                        int64_t n, float* y);
    void (*gated_recurrence)(const RecurrenceArgs&);
    void (*short_attention)(const ShortAttentionArgs&);
    // For i = 0, 2, ... < n, n even: (x[i], x[i + 1]) becomes (x[i] cosines[i] - x[i + 1] sines[i], x[i + 1]
    // cosines[i + 1] + x[i] sines[i + 1]).
    void (*rotate)(float* x, int64_t n, const float* cosines, const float* sines);
    // Weights of a stored q4 row times `inverse`, rounded to bytes, and the sum of these. Whole groups: 16
    // bytes each, the even weight in the low half of a byte, biased by 8.
    int32_t (*q4_to_i8)(const uint8_t* stored, const float* scales, int64_t groups, float inverse, int8_t* y);
};

// The table of each instruction set; only those of the build's platform are defined.
#define QORA_ISA(isa, unit, platform, base, features) const KernelTable& unit##_table() noexcept;
#include "core/isas.inc"

}  // namespace qora
