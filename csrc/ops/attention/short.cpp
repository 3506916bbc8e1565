#include "ops/attention/short.h"

#include <algorithm>
#include <cstring>

#include "ops/ranges.h"

namespace qora {
namespace {

// Rows of head_dim values are padded to whole vectors of every table.
constexpr int64_t kPadding = 16;
// Multiply-adds of a work item, enough to be worth a thread.
constexpr int64_t kItemWork = 1 << 19;

struct Scratch {
    Buffer queries, keys, values, row, weights, out;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

// One head's rows, padded with zeros after head_dim.
void gather(const KernelTable& table, const HeadView& view, int64_t b, int64_t head, int64_t padded,
            float* to, float* buffer) {
    const HeadRows rows = view.head_rows(b, head);
    for (int64_t r = 0; r < view.rows; ++r, to += padded) {
        const float* row = float_row(table, rows, view.head_dim, r, buffer);
        std::memcpy(to, row, static_cast<size_t>(view.head_dim) * 4);
        for (int64_t d = view.head_dim; d < padded; ++d) to[d] = 0.0f;
    }
}

// The same transposed: a row for each channel, padded with zeros after the last of the view's rows.
void gather_transposed(const KernelTable& table, const HeadView& view, int64_t b, int64_t head,
                       int64_t padded, float* to, float* buffer) {
    const HeadRows rows = view.head_rows(b, head);
    float* zeros = buffer + kPadding * view.head_dim;
    std::fill(zeros, zeros + view.head_dim, 0.0f);
    for (int64_t first = 0; first < padded; first += kPadding) {
        const uint8_t* columns[kPadding];
        for (int64_t i = 0; i < kPadding; ++i) {
            const int64_t r = first + i;
            const float* row =
                r >= view.rows ? zeros : float_row(table, rows, view.head_dim, r, buffer + i * view.head_dim);
            columns[i] = reinterpret_cast<const uint8_t*>(row);
        }
        table.transpose(columns, kPadding, view.head_dim, reinterpret_cast<uint8_t*>(to + first), padded);
    }
}

}  // namespace

void short_attention(const KernelTable& table, const AttentionInputs& inputs, const HeadView& out,
                     uint8_t* result, int num_threads) {
    constexpr const char* op = "short_attention";
    check_heads(op, inputs);
    const HeadView &q = inputs.q, &k = inputs.k, &v = inputs.v;
    check(out.dtype == DType::kF32 && out.batch == q.batch && out.rows == q.rows && out.heads == q.heads &&
              out.head_dim == q.head_dim,
          op, "the output must be float32 with the shape of q");

    const int64_t padded = round_up(q.head_dim, kPadding), keys = round_up(k.rows, kPadding);
    const int64_t work = q.rows * keys * padded * 2, grain = 1 + kItemWork / work;
    // Neighbouring sequences of the batch are adjacent in memory, so heads are the outer loop.
    parallel_ranges(table, q.batch * q.heads, grain, num_threads, [&](int64_t begin, int64_t end) {
        Scratch& s = scratch();
        auto* queries = s.queries.ensure<float>(q.rows * padded);
        auto* turned = s.keys.ensure<float>(q.head_dim * keys);
        auto* values = s.values.ensure<float>(k.rows * padded);
        auto* row = s.row.ensure<float>((kPadding + 1) * padded);
        ShortAttentionArgs a{};
        a.q = queries;
        a.k = turned;
        a.v = values;
        a.queries = q.rows;
        a.keys = k.rows;
        a.keys_padded = keys;
        a.head_dim = q.head_dim;
        a.padded = padded;
        a.scale = inputs.scale * kLog2E;
        a.weights = s.weights.ensure<float>(kShortRows * keys);
        a.out = s.out.ensure<float>(q.rows * padded);
        for (int64_t item = begin; item < end; ++item) {
            const int64_t head = item / q.batch, b = item % q.batch;
            gather(table, q, b, head, padded, queries, row);
            gather_transposed(table, k, b, head, keys, turned, row);
            gather(table, v, b, head, padded, values, row);
            table.short_attention(a);
            for (int64_t r = 0; r < q.rows; ++r)
                std::memcpy(result + (out.at(b, head, r) - out.data), a.out + r * padded,
                            static_cast<size_t>(q.head_dim) * 4);
        }
    });
}

}  // namespace qora
