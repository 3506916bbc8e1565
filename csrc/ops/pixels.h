// Operations on uint8 video frames between decoder and model: resizing, cropping, and look-up of float
// values.
#pragma once

#include <cstdint>
#include <vector>

namespace qora {

enum class ResizeFilter { kBilinear, kBicubic };

// The implementation that is reproduced, bit for bit for the first two. kPil Pillow's Image.resize:
// antialiased, weights rounded to 22 bits. kTorchvision torch's uint8 interpolate(antialias=True): the same
// weights, rounded so that they fit int16. kPlain torchvision's float path without antialias: two taps an
// axis, rounded half to even, bilinear only.
enum class ResizeRule { kPil, kTorchvision, kPlain };

// The frame is scaled to out_height x out_width, of which only the crop is computed and written; the result
// equals scaling everything and cropping afterwards.
struct ResizeSpec {
    ResizeFilter filter = ResizeFilter::kBilinear;
    ResizeRule rule = ResizeRule::kPil;
    int64_t out_height = 0, out_width = 0;
    int64_t crop_top = 0, crop_left = 0, crop_height = 0, crop_width = 0;
};

// Throws std::invalid_argument for sizes below 1 or above 65536, a crop outside the output, a bicubic kPlain.
// For callers that allocate the output. resize_u8 also checks.
void check_resize(int64_t count, int64_t height, int64_t width, const ResizeSpec& spec);

// frames: (count, height, width, 3), out: (count, crop_height, crop_width, 3), both contiguous, not
// overlapping. Threads split frames and bands of rows; the result does not depend on their number.
void resize_u8(const uint8_t* frames, int64_t count, int64_t height, int64_t width, const ResizeSpec& spec,
               uint8_t* out, int num_threads);

// Interleaved bytes of a frame whose rows may lie apart; a pixel is 3 bytes, the stride is in bytes.
struct FrameU8 {
    const uint8_t* data;
    int64_t row_stride;
};

// out[t][c][y][x] = table[c][frames[t][y][x][reverse_channels ? 2 - c : c]]. table: (3, 256), out: (frames,
// 3, height, width), contiguous. One pass: the table has the result for every uint8 value, so rescaling, mean
// and standard deviation take no extra time.
void lookup_u8(const std::vector<FrameU8>& frames, int64_t height, int64_t width, const float* table,
               bool reverse_channels, float* out, int num_threads);

}  // namespace qora
