// Checks that an output does not overlap an operand.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "core/views.h"

namespace qora {

// Memory from the first to the last value of a view; strides may be negative.
struct Extent {
    const uint8_t* begin;
    const uint8_t* end;
};

inline Extent extent(const uint8_t* data, DType dtype,
                     std::initializer_list<std::pair<int64_t, int64_t>> axes) {
    int64_t low = 0, high = 0;
    for (const auto& [count, stride] : axes) {
        if (count == 0) return {data, data};
        (stride < 0 ? low : high) += (count - 1) * stride;
    }
    const auto item = static_cast<int64_t>(dtype_size(dtype));
    return {data + low * item, data + (high + 1) * item};
}

inline Extent extent(const ConstMatrix& m) {
    const int64_t run = m.block_cols > 0 ? m.block_cols : m.cols;
    return extent(m.data, m.dtype,
                  {{m.rows, m.row_stride}, {m.cols / std::max<int64_t>(run, 1), m.block_stride}, {run, 1}});
}

inline bool overlap(const Extent& a, const Extent& b) { return a.begin < b.end && b.begin < a.end; }

inline void check_apart(const char* op, const char* name, const Extent& input, const Matrix& out) {
    check(!overlap(input, extent(as_const(out))), op, [&] {
        return std::string("the output overlaps ") + name + ", which is read after parts of it are written";
    });
}

// An operand that is read row by row before the same rows are written may be the output itself.
inline void check_same_or_apart(const char* op, const char* name, const ConstMatrix& input,
                                const Matrix& out) {
    const bool same = input.data == out.data && input.dtype == out.dtype &&
                      input.row_stride == out.row_stride && input.cols == out.cols && out.block_cols == 0;
    if (!input.empty() && !same) check_apart(op, name, extent(input), out);
}

}  // namespace qora
