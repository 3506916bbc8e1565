// Shaped views over memory that the caller owns, and owned scratch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace qora {

// Element type of activations between ops. bf16 values travel as uint16_t.
enum class DType { kF32, kBf16 };

inline size_t dtype_size(DType type) { return type == DType::kF32 ? 4 : 2; }

// A row-major matrix whose rows may lie apart; strides are in elements. Its columns may also come in blocks
// that lie apart, such as the heads of a projection: block_cols columns every block_stride elements.
template <class Byte>
struct BasicMatrix {
    Byte* data = nullptr;
    DType dtype = DType::kF32;
    int64_t rows = 0, cols = 0, row_stride = 0;
    int64_t block_cols = 0, block_stride = 0;  // 0 = one block

    Byte* at(int64_t row, int64_t col = 0) const {
        const int64_t block = block_cols > 0 ? col / block_cols : 0;
        const int64_t offset = row * row_stride + block * block_stride + (col - block * block_cols);
        return data + static_cast<size_t>(offset) * dtype_size(dtype);
    }
    // The number of contiguous columns of a row from `col` on.
    int64_t run(int64_t col) const { return block_cols > 0 ? block_cols - col % block_cols : cols - col; }
    bool empty() const { return data == nullptr; }
};
using Matrix = BasicMatrix<uint8_t>;
using ConstMatrix = BasicMatrix<const uint8_t>;

inline ConstMatrix as_const(const Matrix& m) {
    return {m.data, m.dtype, m.rows, m.cols, m.row_stride, m.block_cols, m.block_stride};
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Throws std::invalid_argument("op: message") unless the condition holds. Pass a message that has to be
// composed as a function: most checks pass, and composing the description of an array costs more than a small
// op.
template <class Message>
void check(bool condition, const char* op, const Message& message) {
    static_assert(!std::is_same_v<Message, std::string>, "compose the message in a function");
    if (condition) return;
    if constexpr (std::is_invocable_v<const Message&>)
        throw std::invalid_argument(std::string(op) + ": " + message());
    else
        throw std::invalid_argument(std::string(op) + ": " + message);
}

// Cache-line aligned, uninitialised, grow-only memory. Not shared between threads.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t bytes) { reserve(bytes); }

    void reserve(size_t bytes) {
        if (bytes <= capacity_) return;
        memory_.reset();  // free first, so that two buffers never exist at once
        capacity_ = 0;
        memory_.reset(static_cast<uint8_t*>(::operator new(bytes, std::align_val_t{kAlignment})));
        capacity_ = bytes;
    }
    uint8_t* data() const { return memory_.get(); }
    size_t capacity() const { return capacity_; }

    // Memory for `count` values of T; it grows when needed.
    template <class T>
    T* ensure(int64_t count) {
        reserve(static_cast<size_t>(count) * sizeof(T));
        return reinterpret_cast<T*>(memory_.get());
    }

  private:
    static constexpr size_t kAlignment = 64;
    struct Free {
        void operator()(uint8_t* p) const { ::operator delete(p, std::align_val_t{kAlignment}); }
    };
    std::unique_ptr<uint8_t, Free> memory_;
    size_t capacity_ = 0;
};

}  // namespace qora
