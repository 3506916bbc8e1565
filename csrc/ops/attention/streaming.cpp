#include "ops/attention/streaming.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/prefetch.h"

namespace qora {
namespace {

// As few blocks as max_block_keys allows, of whole panels of every table and of about equal size.
int64_t block_of_keys(const HeadLayout& l) {
    const int64_t most = max_block_keys(l.table, l.family) / kMaxTileColumns,
                  panels = ceil_div(l.key_rows, kMaxTileColumns);
    return ceil_div(panels, ceil_div(panels, most)) * kMaxTileColumns;
}

// Zeros for the weights of steps that pad the sum of a block: the memory may hold a NaN of an earlier block.
void clear_padding(const HeadLayout& l, int64_t keys, int64_t key_steps, int rows, uint8_t* weights,
                   int64_t weight_stride) {
    const int64_t used = keys * family_bytes(l.family), padded = key_steps * 4;
    for (int r = 0; r < rows; ++r)
        std::memset(weights + r * weight_stride + used, 0, static_cast<size_t>(padded - used));
}

struct Scratch {
    Buffer scales, shifts, scores, weights, state, output, products;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

}  // namespace

int64_t max_block_keys(const KernelTable& table, Family family) {
    if (family != Family::kI8) return 512;
    return table.family[index_of(family)].mr == kMaxTileRows ? 128 : 256;
}

void attend(const HeadLayout& l, const HeadRows& q, const PackedHead& head, float scale,
            const ScoreBias* bias, const HeadResult& out) {
    Scratch& s = scratch();
    const KernelTable& table = l.table;
    const int64_t nr = table.nr, mr = l.kernels.mr, kr = family_kr(l.family), rows = q.count;
    const bool integer = family_is_integer(l.family), corrected = l.family == Family::kI8;
    const int64_t block_keys = block_of_keys(l);
    const int64_t value_nr = l.value_nr, width = l.d_panels * value_nr,
                  weight_stride = block_keys * family_bytes(l.family);

    const EncodedQueries queries = encode_queries(l, q, scale * kLog2E * head.key_scale, bias != nullptr);
    // The softmax reads the products directly, unless a bias is added.
    const float* score_scales = queries.scales;
    const int32_t* score_shifts = queries.shifts;
    if (bias != nullptr) {
        auto* scales = s.scales.ensure<float>(rows);
        auto* shifts = s.shifts.ensure<int32_t>(rows);
        for (int64_t r = 0; r < rows; ++r) {
            shifts[r] = std::min(queries.shifts[r], 0);
            scales[r] = integer ? std::ldexp(queries.scales[r], std::max(queries.shifts[r], 0)) : 1.0f;
        }
        score_scales = scales;
        score_shifts = shifts;
    }

    auto* scores = s.scores.ensure<uint8_t>(mr * block_keys * 4);
    const int64_t part_steps = kI16ProductKeys / kr, part_bytes = mr * value_nr * 4;
    auto* products = s.products.ensure<uint8_t>(ceil_div(block_keys, kI16ProductKeys) * part_bytes);
    auto* weights = s.weights.ensure<uint8_t>(mr * weight_stride);
    auto* output = s.output.ensure<float>(rows * width);
    auto* reference = s.state.ensure<float>(2 * rows + 3 * mr);
    float* running_sum = reference + rows;
    float* keep = running_sum + rows;
    float* gain = keep + mr;
    float* weight_sum = gain + mr;
    std::memset(weights, 0,
                static_cast<size_t>(mr * weight_stride));  // weights after the last key are finite
    std::fill(reference, reference + rows, kNoScore);
    std::fill(running_sum, running_sum + rows, 0.0f);

    SoftmaxArgs softmax{};
    softmax.scores = scores;
    softmax.score_stride = block_keys;
    softmax.weights = weights;
    softmax.weight_stride = weight_stride;
    softmax.weight_sum = weight_sum;
    softmax.keep = keep;
    softmax.gain = gain;
    TileArgs score_tile{};
    score_tile.a_stride = queries.stride;
    score_tile.steps = l.d_steps;
    score_tile.c_stride = block_keys * 4;
    TileArgs value_tile{};
    value_tile.a_stride = weight_stride;
    ScoreBiasArgs added{};
    added.scores = scores;
    added.score_stride = block_keys;
    const uint8_t *block = head.keys, *values = head.values;  // of the block of keys
    for (int64_t key = 0; key < l.key_rows; key += block_keys) {
        const int64_t keys = std::min(block_keys, l.key_rows - key);
        const int64_t key_steps = round_up(ceil_div(keys, kr), l.kernels.step_multiple);
        softmax.keys = static_cast<int>(keys);
        softmax.first = key == 0;
        for (int64_t r = 0; r < rows; r += mr) {
            const int tile_rows = static_cast<int>(std::min(mr, rows - r));
            for (int64_t i = r; key + keys == l.key_rows && i < r + tile_rows; ++i)
                prefetch_write(out.at(i),
                               out.at(i) + l.head_dim * static_cast<int64_t>(dtype_size(out.dtype)));
            score_tile.rows = tile_rows;
            score_tile.a = queries.rows + r * queries.stride;
            const uint8_t* panel = block;
            for (int64_t n = 0; n < keys; n += nr, panel += l.key_panel_bytes) {
                score_tile.b = panel;
                score_tile.c = scores + n * 4;
                score_tile.initial.rows = corrected ? head.corrections + key + n : nullptr;
                score_tile.prefetch.begin = panel;
                l.kernels.tile(score_tile);
            }
            if (bias != nullptr) {
                added.rows = tile_rows;
                added.first = static_cast<int>(key);
                added.columns = static_cast<int>(round_up(keys, nr));
                added.row_scale = queries.scales + r;
                added.row_shift = queries.shifts + r;
                added.bias = bias->rows + r;
                added.mask = bias->masks == nullptr ? nullptr : bias->masks + r;
                l.kernels.add_bias(added);
            }
            softmax.rows = tile_rows;
            softmax.row_scale = score_scales + r;
            softmax.row_shift = score_shifts + r;
            softmax.row_factor = queries.factors + r;
            softmax.reference = reference + r;
            softmax.running_sum = running_sum + r;
            const bool simply_added = l.kernels.softmax(softmax);
            if (l.kernels.step_multiple > 1)
                clear_padding(l, keys, key_steps, tile_rows, weights, weight_stride);
            const bool whole =
                l.family != Family::kI16 ||
                std::none_of(weight_sum, weight_sum + tile_rows, [](float x) { return x > kI16WeightSum; });
            value_tile.rows = tile_rows;
            const int64_t parts = whole ? 1 : ceil_div(key_steps, part_steps);
            // Float weights are relative to what the new reference is: what was accumulated follows it. A row
            // whose reference stays must not change in any bit, whatever stands beside it.
            for (int i = 0; !integer && !simply_added && i < tile_rows; ++i)
                if (float* to = output + (r + i) * width; keep[i] != 1.0f)
                    table.scale_row(to, head.value_scales, keep[i], head.value_offsets, l.head_dim, to,
                                    false);
            for (int64_t p = 0; p < l.d_panels; ++p) {
                const uint8_t* panel = values + p * l.value_panel_bytes;
                float* to = output + r * width + p * value_nr;
                value_tile.prefetch.begin = panel;
                if (!integer || simply_added) {
                    value_tile.a = weights;
                    value_tile.b = panel;
                    value_tile.steps = key_steps;
                    value_tile.c = to;
                    value_tile.c_stride = width * 4;
                    value_tile.initial = {key > 0 ? to : nullptr, width * 4};
                    l.value_tile(value_tile);
                    continue;
                }
                value_tile.c_stride = value_nr * 4;
                value_tile.initial = {nullptr, 0};
                for (int64_t part = 0; part < parts; ++part) {
                    const int64_t step = part * part_steps;
                    value_tile.a = weights + step * 4;
                    value_tile.b = panel + step * value_nr * 4;
                    value_tile.steps = parts == 1 ? key_steps : std::min(part_steps, key_steps - step);
                    value_tile.c = products + part * part_bytes;
                    l.value_tile(value_tile);
                }
                table.merge({products, static_cast<int>(parts), part_bytes / 4, weight_sum, value_nr,
                             tile_rows, static_cast<int>(value_nr), integer, key == 0, keep, gain, to,
                             width});
            }
        }
        block += block_keys / nr * l.key_panel_bytes;
        values += block_keys / kr * value_nr * 4;
    }
    for (int64_t r = 0; r < rows; ++r)
        table.scale_row(output + r * width, head.value_scales, 1.0f / running_sum[r], head.value_offsets,
                        l.head_dim, out.at(r), out.dtype == DType::kBf16);
}

}  // namespace qora
