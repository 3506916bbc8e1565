#include "ops/attention/heads.h"

#include <cmath>
#include <string>

namespace qora {
namespace {

std::string describe(const HeadView& v) {
    return "(" + std::to_string(v.batch) + ", " + std::to_string(v.rows) + ", " + std::to_string(v.heads) +
           ", " + std::to_string(v.head_dim) + ")";
}

}  // namespace

void check_heads(const char* op, const AttentionInputs& inputs) {
    const HeadView &q = inputs.q, &k = inputs.k, &v = inputs.v;
    check(inputs.scale > 0.0f && std::isfinite(inputs.scale), op, "the scale must be positive and finite");
    check(q.rows > 0 && k.rows > 0 && q.heads > 0 && q.head_dim > 0, op,
          "expected at least one query, key and head");
    check(k.batch == q.batch && v.batch == q.batch && k.heads == q.heads && v.heads == q.heads &&
              k.head_dim == q.head_dim && v.head_dim == q.head_dim && v.rows == k.rows,
          op, [&] {
              return "q " + describe(q) + ", k " + describe(k) + " and v " + describe(v) +
                     " do not fit together";
          });
}

void check_streamed_heads(const char* op, const AttentionInputs& inputs) {
    check_heads(op, inputs);
    check(inputs.q.head_dim <= 4096, op,
          [&] { return "head_dim must be at most 4096, got " + std::to_string(inputs.q.head_dim); });
}

}  // namespace qora
