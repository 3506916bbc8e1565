// AVX-512 with VNNI, BF16 and AMX (Sapphire Rapids and later): tiles of bytes and of bf16.
#define QORA_UNIT_VNNI 1
#define QORA_UNIT_BF16 1
#include "kernels/simd/simd_amx.h"
#include "kernels/simd/simd_avx512.h"

#include "kernels/algorithms/matrix_tile.inl.h"
#include "kernels/algorithms/table.inl.h"

namespace qora {
namespace {

using V = Avx512Simd;

// The SoftmaxFn of tiles with more rows than a softmax takes side by side. Rows whose products are simply
// added may stand beside others: their factors are ones then.
template <template <class, int> class Of, int MaxRows>
bool softmax_in_turn(const SoftmaxArgs& args) {
    SoftmaxArgs some = args;
    bool added[kMaxTileRows], all_added = true;
    for (int r = 0; r < args.rows; r += MaxRows) {
        some.rows = args.rows - r < MaxRows ? args.rows - r : MaxRows;
        const bool simply = softmax<V, Of, MaxRows>(some);
        for (int i = r; i < r + some.rows; ++i) added[i] = simply;
        all_added &= simply;
        some.scores = static_cast<const uint8_t*>(some.scores) + MaxRows * args.score_stride * 4;
        some.weights = static_cast<uint8_t*>(some.weights) + MaxRows * args.weight_stride;
        some.row_scale += MaxRows;
        some.row_shift += MaxRows;
        some.row_factor += MaxRows;
        some.weight_sum += MaxRows;
        some.reference += MaxRows;
        some.running_sum += MaxRows;
        some.keep += MaxRows;
        some.gain += MaxRows;
    }
    for (int r = 0; !all_added && r < args.rows; ++r)
        if (added[r]) args.keep[r] = args.gain[r] = 1.0f;
    return all_added;
}

}  // namespace

const KernelTable& avx512_amx_table() noexcept {
    static const KernelTable table = [] {
        KernelTable t = avx512_vnni_bf16_table();
        FamilyKernels& i8 = t.family[index_of(Family::kI8)];
        constexpr int kVnniRows = V::kRowsI8;
        constexpr TileFn kVnni = tile<V, V::DotI8, kVnniRows>, kHalfVnni = half_tile<V, V::DotI8, kVnniRows>;
        i8.mr = AmxTiles::kRows;
        i8.step_multiple = AmxTiles::kSteps;
        i8.tile = matrix_or_other_tile<AmxTiles, AmxI8, 4, kVnni, kVnniRows>;
        i8.half_tile = matrix_or_other_tile<AmxTiles, AmxI8, 2, kHalfVnni, kVnniRows>;
        i8.softmax = softmax_in_turn<ByteSoftmax, V::kRowsI8>;
        FamilyKernels& bf16 = t.family[index_of(Family::kBf16)];
        bf16.mr = AmxTiles::kRows;
        bf16.step_multiple = AmxTiles::kSteps;
        bf16.tile = matrix_tile<AmxTiles, AmxBf16, 4>;
        bf16.half_tile = matrix_tile<AmxTiles, AmxBf16, 2>;
        bf16.softmax = softmax_in_turn<Bf16Softmax, V::kRowsBf16>;
        // Attention in bytes is no faster: its products take little time, and its smaller blocks of keys
        // more.
        t.int8_attention = Family::kBf16;
        t.enter_range = [] { AmxTiles::configure(AmxTiles::kRows); };
        t.leave_range = AmxTiles::release;
        return t;
    }();
    return table;
}

}  // namespace qora
