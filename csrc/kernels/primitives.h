// The operations of a vector wrapper one by one, for tests; docs/kernels/porting.md lists them.
#pragma once

#include <cstdint>

namespace qora {

// Each operand has exactly as many values as the operation reads for one vector.
struct PrimitiveArgs {
    const void* a;
    const void* b;
    const void* c;
    int n;      // lanes, or a shift
    void* out;  // the stored vector, or a scalar result
};

struct Primitive {
    const char* name;
    void (*run)(const PrimitiveArgs&);
};

struct PrimitiveTable {
    int width;  // lanes of float32
    int words_of_bytes;
    const Primitive* primitives;
    int count;
};

}  // namespace qora
