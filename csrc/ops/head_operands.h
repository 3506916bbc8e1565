// Queries, keys and values of a head as operands of its tiles, and the scales that go with them.
#pragma once

#include "ops/streaming_attention.h"

namespace qora {

// Queries as a left operand, and what turns a row's accumulators into scores: `scale` times one is a score in
// units of log2; shifts and factors are those of SoftmaxArgs. They stay until the thread encodes others.
struct EncodedQueries {
    const uint8_t* rows;
    ptrdiff_t stride;  // bytes
    const float* scales;
    const int32_t* shifts;
    const int16_t* factors;
};

// `unit` is what a product of an encoded key and a query as it is counts in units of log2; `biased`:
// something is added to scores.
EncodedQueries encode_queries(const HeadLayout& layout, const HeadRows& q, float unit, bool biased);

}  // namespace qora
