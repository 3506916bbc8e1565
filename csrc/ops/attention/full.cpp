#include "ops/attention/full.h"

#include <vector>

#include "ops/attention/streaming.h"
#include "ops/ranges.h"

namespace qora {

void attention(const KernelTable& table, Family family, const AttentionInputs& inputs, const Matrix& out,
               int num_threads) {
    constexpr const char* op = "attention";
    check(table.family[index_of(family)].softmax != nullptr, op,
          "the operand family must be f32, bf16, i16 or i8");
    check_streamed_heads(op, inputs);
    const HeadView &q = inputs.q, &k = inputs.k, &v = inputs.v;
    check(out.rows == q.batch * q.rows && out.cols == q.heads * q.head_dim, op, [&] {
        return "the output must be (" + std::to_string(q.batch * q.rows) + ", " +
               std::to_string(q.heads * q.head_dim) + ")";
    });

    const HeadLayout layout(table, family, q.head_dim, k.rows);
    const int64_t heads = q.batch * q.heads;
    const EvenBlocks blocks = even_blocks(q.rows, layout.kernels.mr, kBlockQueries, num_threads, heads);
    thread_local Buffer operands;
    uint8_t* memory = operands.ensure<uint8_t>(heads * layout.head_bytes);
    std::vector<PackedHead> packed(static_cast<size_t>(heads));
    for (int64_t h = 0; h < heads; ++h)
        packed[static_cast<size_t>(h)] = layout.head(memory + h * layout.head_bytes);
    parallel_ranges(table, 2 * heads, 1, num_threads, [&](int64_t item, int64_t) {
        const int64_t h = item / 2, b = h / q.heads;
        PackedHead& head = packed[static_cast<size_t>(h)];
        if (item % 2 == 0)
            pack_keys(layout, k.head_rows(b, h % q.heads), head);
        else
            pack_values(layout, v.head_rows(b, h % q.heads), head);
    });
    // The blocks of one head come one after the other, so that its keys and values stay in the L2 cache.
    parallel_ranges(table, heads * blocks.count, 1, num_threads, [&](int64_t item, int64_t) {
        const int64_t h = item / blocks.count, b = h / q.heads, block = item % blocks.count;
        const int64_t begin = blocks.begin(block);
        HeadRows queries = q.head_rows(b, h % q.heads);
        queries.data = queries.at(begin);
        queries.count = blocks.begin(block + 1) - begin;
        attend(
            layout, queries, packed[static_cast<size_t>(h)], inputs.scale, nullptr,
            {out.at(b * q.rows + begin, h % q.heads * q.head_dim), out.dtype, out.row_stride, queries.count});
    });
}

}  // namespace qora
