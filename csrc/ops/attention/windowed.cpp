#include "ops/attention/windowed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "ops/attention/streaming.h"
#include "ops/ranges.h"

namespace qora {
namespace {

// The mask of a pair of tokens from opposite ends of the grid.
constexpr float kMask = -100.0f;
constexpr float kMaxBias = 65536.0f;
static_assert(static_cast<int64_t>(kMaxBias * kLog2E * (1 << kI16ScoreBits)) < kMaxBiasSteps);
// Windows that are processed with the same rows of bias: so few that their keys and values stay in the L2
// cache.
constexpr int64_t kMaxGroup = 8;
// Work items per thread, so that a slow core does not hold up the others.
constexpr int64_t kItemsPerThread = 4;

constexpr int64_t volume(const Windows::Size& s) { return s[0] * s[1] * s[2]; }

std::string describe(const Windows::Size& s) {
    return "(" + std::to_string(s[0]) + ", " + std::to_string(s[1]) + ", " + std::to_string(s[2]) + ")";
}

// Coordinates of item i of a box.
Windows::Size unravel(int64_t i, const Windows::Size& box) {
    return {i / (box[1] * box[2]), i / box[2] % box[1], i % box[2]};
}

// The tokens of each window, and the masks between them. A set of dimensions is a number of three bits.
struct WindowMap {
    Windows::Size window{}, counts{};
    int64_t windows = 1, tokens = 1;  // tokens of a window
    std::vector<int64_t> order;       // [windows][tokens]: row of the grid; what is missing is the row behind
    std::vector<int> ends;      // [windows]: dimensions along which both ends of the grid meet in the window
    std::vector<int> far_side;  // [tokens]: dimensions along which it is beyond the seam of such a window
    int64_t missing;

    explicit WindowMap(const Windows& w) : missing(volume(w.grid)) {
        Windows::Size shift{};
        for (size_t d = 0; d < 3; ++d) {
            const bool one = w.grid[d] <= w.window[d];
            window[d] = one ? w.grid[d] : w.window[d];
            shift[d] = one ? 0 : w.shift[d];
            counts[d] = ceil_div(w.grid[d], window[d]);
            windows *= counts[d];
            tokens *= window[d];
        }
        far_side.resize(static_cast<size_t>(tokens));
        for (int64_t i = 0; i < tokens; ++i) {
            const Windows::Size at = unravel(i, window);
            for (size_t d = 0; d < 3; ++d)
                far_side[static_cast<size_t>(i)] |= (at[d] >= window[d] - shift[d]) << d;
        }
        // Along each dimension, the source of the token at each position of the rolled grid; -1 = padding.
        std::array<std::vector<int64_t>, 3> from;
        for (size_t d = 0; d < 3; ++d) {
            const int64_t padded = counts[d] * window[d];
            for (int64_t x = 0; x < padded; ++x) {
                const int64_t at = (x + shift[d]) % padded;
                from[d].push_back(at < w.grid[d] ? at : -1);
            }
        }
        order.reserve(static_cast<size_t>(windows * tokens));
        ends.resize(static_cast<size_t>(windows));
        for (int64_t n = 0; n < windows; ++n) {
            const Windows::Size number = unravel(n, counts);
            for (size_t d = 0; d < 3; ++d)
                ends[static_cast<size_t>(n)] |= (shift[d] > 0 && number[d] == counts[d] - 1) << d;
            const auto rows_of = [&](size_t d) { return from[d].data() + number[d] * window[d]; };
            const int64_t *times = rows_of(0), *heights = rows_of(1), *widths = rows_of(2);
            for (int64_t t = 0; t < window[0]; ++t)
                for (int64_t y = 0; y < window[1]; ++y)
                    for (int64_t x = 0; x < window[2]; ++x) {
                        const bool inside = times[t] >= 0 && heights[y] >= 0 && widths[x] >= 0;
                        const int64_t row = (times[t] * w.grid[1] + heights[y]) * w.grid[2] + widths[x];
                        order.push_back(inside ? row : missing);
                    }
        }
    }
};

// A value of the bias as the four bytes that ScoreBias holds.
uint32_t biased(Family family, float value) {
    const float octaves = value * kLog2E;
    uint32_t bits;
    if (family == Family::kI16) {
        const auto steps = static_cast<int32_t>(std::lrint(octaves * (1 << kI16ScoreBits)));
        std::memcpy(&bits, &steps, 4);
    } else {
        std::memcpy(&bits, &octaves, 4);
    }
    return bits;
}

// The rows of bias and mask, in the order of the columns of scores.
struct BiasTable {
    int64_t columns, entries, centre;
    std::vector<int64_t> keys;     // [columns]
    std::vector<int64_t> at;       // [tokens]: the bias of i and j is entry centre + at[i] - at[j]
    std::vector<int64_t> key_at;   // [columns]: that of the column's key
    std::vector<uint32_t> values;  // [heads][entries]
    std::vector<uint32_t> masks;   // [ends][far sides][columns]

    BiasTable(const HeadLayout& layout, const WindowMap& map, const Windows::Size& whole,
              const OffsetBias& bias, int64_t heads)
        : columns(layout.score_columns()), entries(bias.rows), keys(static_cast<size_t>(columns)) {
        const int64_t height = 2 * whole[1] - 1, width = 2 * whole[2] - 1;
        const auto place = [=](const Windows::Size& c) { return (c[0] * height + c[1]) * width + c[2]; };
        centre = place({whole[0] - 1, whole[1] - 1, whole[2] - 1});
        layout.key_columns(keys.data());
        for (int64_t i = 0; i < map.tokens; ++i) at.push_back(place(unravel(i, whole)));
        for (const int64_t key : keys) key_at.push_back(at[static_cast<size_t>(key)]);
        values.resize(static_cast<size_t>(heads * entries));
        for (int64_t e = 0; e < entries; ++e)
            for (int64_t h = 0; h < heads; ++h)
                values[static_cast<size_t>(h * entries + e)] =
                    biased(layout.family, bias.values[e * heads + h]);
        masks.resize(static_cast<size_t>(64 * columns));
        const uint32_t none = biased(layout.family, 0.0f), apart = biased(layout.family, kMask);
        for (int ends = 0; ends < 8; ++ends)
            for (int side = 0; side < 8; ++side)
                for (int64_t c = 0; c < columns; ++c) {
                    const int other = map.far_side[static_cast<size_t>(keys[static_cast<size_t>(c)])];
                    masks[static_cast<size_t>((ends * 8 + side) * columns + c)] =
                        (other & ends) == (side & ends) ? none : apart;
                }
    }
    void row(int64_t head, int64_t token, uint32_t* to) const {
        const uint32_t* from = values.data() + head * entries + centre + at[static_cast<size_t>(token)];
        const int64_t* offset = key_at.data();
        for (int64_t c = 0; c < columns; ++c) to[c] = from[-offset[c]];
    }
    const void* mask(int ends, int side) const { return masks.data() + (ends * 8 + side) * columns; }
};

struct Scratch {
    Buffer operands, bias, rows, biases, masks;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

// The data that all work items share.
struct Operation {
    const HeadLayout& layout;
    const WindowMap& map;
    const BiasTable& table;
    const HeadView &q, &k, &v;
    float scale;
    const Matrix& out;

    // One head of windows [first, last).
    void run(int64_t head, int64_t first, int64_t last) const {
        Scratch& s = scratch();
        const auto rows_of = [&](const HeadView& view, int64_t window) {
            return HeadRows{view.at(0, head, 0), view.dtype, view.row_stride, map.tokens,
                            map.order.data() + window * map.tokens};
        };
        PackedHead packed[kMaxGroup];
        auto* memory = s.operands.ensure<uint8_t>((last - first) * layout.head_bytes);
        for (int64_t w = first; w < last; ++w) {
            packed[w - first] = layout.head(memory + (w - first) * layout.head_bytes);
            pack_keys(layout, rows_of(k, w), packed[w - first]);
            pack_values(layout, rows_of(v, w), packed[w - first]);
        }

        const EvenBlocks blocks = even_blocks(map.tokens, layout.kernels.mr, kBlockQueries, 1);
        const int64_t largest = blocks.largest();
        auto* bias = s.bias.ensure<uint32_t>(largest * table.columns);
        auto* rows = s.rows.ensure<int64_t>(largest);
        auto* biases = s.biases.ensure<const void*>(largest);
        auto* masks = s.masks.ensure<const void*>(largest);
        HeadRows queries = rows_of(q, 0);
        queries.order = rows;
        for (int64_t block = 0; block < blocks.count; ++block) {
            const int64_t begin = blocks.begin(block), end = blocks.begin(block + 1);
            for (int64_t i = begin; i < end; ++i) table.row(head, i, bias + (i - begin) * table.columns);
            for (int64_t w = first; w < last; ++w) {
                const int ends = map.ends[static_cast<size_t>(w)];
                queries.count = 0;
                for (int64_t i = begin; i < end; ++i) {
                    const int64_t row = map.order[static_cast<size_t>(w * map.tokens + i)];
                    if (row == map.missing) continue;
                    rows[queries.count] = row;
                    biases[queries.count] = bias + (i - begin) * table.columns;
                    masks[queries.count++] = table.mask(ends, map.far_side[static_cast<size_t>(i)]);
                }
                const ScoreBias added{biases, ends == 0 ? nullptr : masks};
                attend(layout, queries, packed[w - first], scale, &added,
                       {out.at(0, head * q.head_dim), out.dtype, out.row_stride, queries.count, rows});
            }
        }
    }
};

}  // namespace

void window_attention(const KernelTable& table, Family family, const AttentionInputs& inputs,
                      const Windows& windows, const OffsetBias& bias, const Matrix& out, int num_threads) {
    constexpr const char* op = "window_attention";
    check(table.family[index_of(family)].add_bias != nullptr, op,
          "the operand family must be f32, bf16 or i16");
    check_streamed_heads(op, inputs);
    const HeadView &q = inputs.q, &k = inputs.k, &v = inputs.v;
    const Windows::Size &grid = windows.grid, &window = windows.window, &shift = windows.shift;
    for (size_t d = 0; d < 3; ++d) {
        check(0 < grid[d] && grid[d] < 1 << 20 && 0 < window[d] && window[d] <= 1 << 10, op,
              [&] { return "impossible sizes: grid " + describe(grid) + ", window " + describe(window); });
        check(0 <= shift[d] && shift[d] < window[d], op, [&] {
            return "the shift " + describe(shift) + " must be less than the window " + describe(window);
        });
    }
    check(q.batch == 1 && q.rows == volume(grid) + 1 && k.rows == q.rows, op, [&] {
        return "q, k and v must have batch 1 and " + std::to_string(volume(grid) + 1) +
               " rows: those of the grid " + describe(grid) + " and one";
    });
    const int64_t offsets = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1);
    check(bias.rows == offsets, op, [&] {
        return "a window " + describe(window) + " has " + std::to_string(offsets) + " rows of bias, got " +
               std::to_string(bias.rows);
    });
    check(std::all_of(bias.values, bias.values + bias.rows * q.heads,
                      [](float x) { return std::abs(x) <= kMaxBias; }),
          op, "the bias must be finite and at most 65536 in magnitude");
    check(out.rows == volume(grid) && out.cols == q.heads * q.head_dim, op, [&] {
        return "the output must be (" + std::to_string(volume(grid)) + ", " +
               std::to_string(q.heads * q.head_dim) + ")";
    });

    const WindowMap map(windows);
    const HeadLayout layout(table, family, q.head_dim, map.tokens);
    const BiasTable added(layout, map, window, bias, q.heads);
    const Operation operation{layout, map, added, q, k, v, inputs.scale, out};
    const int64_t wanted = resolve_threads(num_threads) * kItemsPerThread;
    const int64_t group = std::clamp<int64_t>(map.windows * q.heads / wanted, 1, kMaxGroup);
    const int64_t groups = ceil_div(map.windows, group);
    // Neighbouring windows of one head come one after the other.
    parallel_ranges(table, q.heads * groups, 1, num_threads, [&](int64_t item, int64_t) {
        const int64_t first = item % groups * group;
        operation.run(item / groups, first, std::min(first + group, map.windows));
    });
}

}  // namespace qora
