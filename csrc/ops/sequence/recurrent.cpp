#include "ops/sequence/recurrent.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/ranges.h"

namespace qora {
namespace {

// Work items per thread: tokens are divided among threads, each with all of its frames.
constexpr int64_t kItemsPerThread = 4;

int64_t grain_of(int64_t tokens, int num_threads) {
    return std::max<int64_t>(1, ceil_div(tokens, resolve_threads(num_threads) * kItemsPerThread));
}

const float* floats(const ConstMatrix& m, int64_t row) { return reinterpret_cast<const float*>(m.at(row)); }
float* floats(const Matrix& m, int64_t row) { return reinterpret_cast<float*>(m.at(row)); }

void check_rows(const char* op, const char* name, const ConstMatrix& m, int64_t rows, int64_t cols) {
    check(m.dtype == DType::kF32 && m.rows == rows && m.cols == cols && m.block_cols == 0, op, [&] {
        return std::string(name) + " must be float32 (" + std::to_string(rows) + ", " + std::to_string(cols) +
               "), got (" + std::to_string(m.rows) + ", " + std::to_string(m.cols) + ")";
    });
}

int64_t frames_of(const char* op, int64_t rows, int64_t tokens) {
    check(tokens > 0 && rows % tokens == 0, op, [&] {
        return std::to_string(rows) + " rows are no whole number of frames of " + std::to_string(tokens) +
               " tokens";
    });
    return rows / tokens;
}

}  // namespace

void causal_conv(const KernelTable& table, const ConstMatrix& x, const float* weight, int64_t taps,
                 const float* bias, const Matrix& history, const Matrix& out, int num_threads) {
    const char* op = "causal_conv";
    check(taps >= 2 && taps <= 64, op, [&] { return "expected 2 to 64 taps, got " + std::to_string(taps); });
    const int64_t past = taps - 1, tokens = history.rows / past;
    check_rows(op, "the history", as_const(history), tokens * past, x.cols);
    check_rows(op, "the output", as_const(out), x.rows, x.cols);
    check_rows(op, "the input", x, x.rows, x.cols);
    const int64_t frames = frames_of(op, x.rows, tokens);
    const auto row_bytes = static_cast<size_t>(x.cols) * sizeof(float);
    parallel_ranges(
        table, tokens, grain_of(tokens, num_threads), num_threads, [&](int64_t begin, int64_t end) {
            std::vector<const float*> inputs(static_cast<size_t>(taps));
            // Frame t of the sequence of history and x.
            const auto input = [&](int64_t t, int64_t token) {
                return t < past ? floats(as_const(history), t * tokens + token)
                                : floats(x, (t - past) * tokens + token);
            };
            for (int64_t t = 0; t < frames; ++t)
                for (int64_t token = begin; token < end; ++token) {
                    for (int64_t s = 0; s < taps; ++s) inputs[static_cast<size_t>(s)] = input(t + s, token);
                    table.causal_conv(inputs.data(), static_cast<int>(taps), weight, bias, x.cols,
                                      floats(out, t * tokens + token));
                }
            for (int64_t s = 0; s < past; ++s)
                for (int64_t token = begin; token < end; ++token)
                    std::memmove(floats(history, s * tokens + token), input(s + frames, token), row_bytes);
        });
}

void gated_recurrence(const KernelTable& table, const GatedInputs& inputs, const Matrix& state,
                      const Matrix& out, int num_threads) {
    const ConstMatrix &x = inputs.x, &input_gate = inputs.input_gate, &decay_gate = inputs.decay_gate,
                      &branch = inputs.branch;
    const char* op = "gated_recurrence";
    const int64_t tokens = state.rows, frames = frames_of(op, x.rows, tokens);
    check_rows(op, "the state", as_const(state), tokens, x.cols);
    check_rows(op, "the input", x, x.rows, x.cols);
    check_rows(op, "the input gate", input_gate, x.rows, x.cols);
    check_rows(op, "the decay gate", decay_gate, x.rows, x.cols);
    check_rows(op, "the branch", branch, x.rows, x.cols);
    check_rows(op, "the output", as_const(out), x.rows, x.cols);
    parallel_ranges(
        table, tokens, grain_of(tokens, num_threads), num_threads, [&](int64_t begin, int64_t end) {
            for (int64_t t = 0; t < frames; ++t)
                for (int64_t token = begin; token < end; ++token) {
                    const int64_t row = t * tokens + token;
                    table.gated_recurrence({floats(x, row), floats(input_gate, row), floats(decay_gate, row),
                                            inputs.decay, floats(branch, row), floats(state, token),
                                            floats(out, row), x.cols, inputs.fresh && t == 0});
                }
        });
}

}  // namespace qora
