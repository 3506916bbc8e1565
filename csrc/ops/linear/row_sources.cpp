#include "ops/linear/row_sources.h"

#include <cstring>

namespace qora {

const float* MatrixRows::row(const KernelTable& table, int64_t i, float* scratch) const {
    if (matrix_.dtype == DType::kF32) return reinterpret_cast<const float*>(matrix_.at(i));
    table.bf16_to_f32(reinterpret_cast<const uint16_t*>(matrix_.at(i)), matrix_.cols, scratch);
    return scratch;
}

TubeletRows::TubeletRows(const float* clip, Shape shape, Tubelet tubelet)
    : clip_(clip), shape_(shape), tubelet_(tubelet) {
    check(tubelet.frames > 0 && tubelet.height > 0 && tubelet.width > 0, "tubelet_embed",
          "expected a positive tubelet size");
    grid_t_ = shape.frames / tubelet.frames;
    grid_h_ = shape.height / tubelet.height;
    grid_w_ = shape.width / tubelet.width;
    check(rows() > 0, "tubelet_embed", "the clip is smaller than one tubelet");
}

const float* TubeletRows::row(const KernelTable&, int64_t i, float* scratch) const {
    const int64_t w = i % grid_w_, h = i / grid_w_ % grid_h_, t = i / (grid_w_ * grid_h_);
    float* to = scratch;
    for (int64_t c = 0; c < shape_.channels; ++c)
        for (int64_t dt = 0; dt < tubelet_.frames; ++dt) {
            const int64_t frame = (t * tubelet_.frames + dt) * shape_.channels + c;
            for (int64_t dy = 0; dy < tubelet_.height; ++dy, to += tubelet_.width) {
                const int64_t y = h * tubelet_.height + dy;
                const float* from = clip_ + (frame * shape_.height + y) * shape_.width + w * tubelet_.width;
                std::memcpy(to, from, static_cast<size_t>(tubelet_.width) * 4);
            }
        }
    return scratch;
}

}  // namespace qora
