#include "ops/attention/rotary.h"

#include "ops/ranges.h"

namespace qora {
namespace {

// Tokens whose part of the tables stays in the L1 cache while all heads are rotated.
constexpr int64_t kTokens = 32;

}  // namespace

void rotate(const KernelTable& table, const HeadView& x, uint8_t* result, int64_t channels,
            const float* cosines, const float* sines, int num_threads) {
    constexpr const char* op = "rotate";
    check(x.dtype == DType::kF32, op, "expected float32");
    check(channels % 2 == 0 && channels <= x.head_dim, op, [&] {
        return "expected angles for an even number of channels up to " + std::to_string(x.head_dim) +
               ", got " + std::to_string(channels);
    });
    parallel_ranges(table, x.rows, kTokens, num_threads, [&](int64_t begin, int64_t end) {
        for (int64_t b = 0; b < x.batch; ++b)
            for (int64_t head = 0; head < x.heads; ++head)
                for (int64_t r = begin; r < end; ++r)
                    table.rotate(reinterpret_cast<float*>(result + (x.at(b, head, r) - x.data)), channels,
                                 cosines + r * channels, sines + r * channels);
    });
}

}  // namespace qora
