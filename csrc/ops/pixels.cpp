#include "ops/pixels.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "core/views.h"

namespace qora {
namespace {

constexpr const char* kOp = "resize_u8";
constexpr int64_t kMaxSide = 65536;
constexpr int kChannels = 3;
// Output rows of one work item. Each item scales all source rows that it needs, so neighbouring items scale a
// few rows twice. In exchange, a single frame can use several threads, and the scratch memory stays in the L2
// cache.
constexpr int64_t kMinBandRows = 16, kMaxBandRows = 32;
constexpr int kPilBits = 22;

double filter_weight(ResizeFilter filter, double x) {
    x = std::fabs(x);
    if (filter == ResizeFilter::kBilinear) return x < 1.0 ? 1.0 - x : 0.0;
    constexpr double a = -0.5;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

// The taps of one axis: output position i of the crop is
// (sum over k < taps[i] of weights[i * max_taps + k] * source[first[i] + k] + half) >> shift.
struct Axis {
    std::vector<int64_t> first;
    std::vector<int> taps;
    std::vector<int32_t> weights;
    int64_t max_taps = 0;
    int shift = kPilBits;
    bool clamps = false;  // whether a sum can leave [0, 255]: negative lobes

    const int32_t* weights_of(int64_t i) const { return weights.data() + i * max_taps; }
    int64_t source_begin(int64_t i) const { return first[static_cast<size_t>(i)]; }
    int64_t source_end(int64_t i) const {
        return first[static_cast<size_t>(i)] + taps[static_cast<size_t>(i)];
    }
};

// Fractional bits of the weights: 22 for Pillow; for torch the most with which the largest weight of the
// whole axis fits an int16.
int fixed_point_bits(ResizeRule rule, double largest_weight) {
    if (rule == ResizeRule::kPil) return kPilBits;
    int bits = 0;
    while (bits < kPilBits && static_cast<int64_t>(0.5 + largest_weight * std::ldexp(1.0, bits + 1)) < 32768)
        ++bits;
    return bits;
}

Axis make_axis(int64_t in, int64_t out, int64_t crop_begin, int64_t crop_size, const ResizeSpec& spec) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double filter_scale = std::max(scale, 1.0);
    const double support = (spec.filter == ResizeFilter::kBilinear ? 1.0 : 2.0) * filter_scale;
    const double inverse = 1.0 / filter_scale;
    Axis axis;
    axis.max_taps = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
    axis.weights.assign(static_cast<size_t>(crop_size * axis.max_taps), 0);
    std::vector<double> row(static_cast<size_t>(axis.max_taps)), kept;
    kept.reserve(axis.weights.size());
    double largest = 0.0;
    // The whole axis is visited because torch's fixed point depends on its largest weight.
    for (int64_t i = 0; i < out; ++i) {
        const double center = (static_cast<double>(i) + 0.5) * scale;
        const int64_t begin = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
        const int64_t end = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), in);
        double total = 0.0;
        for (int64_t k = 0; k < end - begin; ++k) {
            const double w =
                filter_weight(spec.filter, (static_cast<double>(begin + k) - center + 0.5) * inverse);
            row[static_cast<size_t>(k)] = w;
            total += w;
        }
        const bool keep = i >= crop_begin && i < crop_begin + crop_size;
        for (int64_t k = 0; k < axis.max_taps; ++k) {
            const double w = k < end - begin ? row[static_cast<size_t>(k)] / total : 0.0;
            largest = std::max(largest, w);
            if (keep) kept.push_back(w);
        }
        if (keep) {
            axis.first.push_back(begin);
            axis.taps.push_back(static_cast<int>(end - begin));
        }
    }
    axis.shift = fixed_point_bits(spec.rule, largest);
    const double one = std::ldexp(1.0, axis.shift);
    for (size_t i = 0; i < kept.size(); ++i)
        axis.weights[i] = static_cast<int32_t>(kept[i] * one + (kept[i] < 0 ? -0.5 : 0.5));
    for (int64_t i = 0; i < crop_size; ++i) {
        int64_t sum = 0;
        for (int64_t k = 0; k < axis.max_taps; ++k) {
            const int32_t w = axis.weights_of(i)[k];
            axis.clamps |= w < 0;
            sum += w;
        }
        axis.clamps |= ((sum * 255 + (int64_t{1} << (axis.shift - 1))) >> axis.shift) > 255;
    }
    return axis;
}

struct Axes {
    int64_t height = 0, width = 0;
    ResizeSpec spec;
    Axis rows, columns;

    auto key() const {
        return std::tie(height, width, spec.filter, spec.rule, spec.out_height, spec.out_width, spec.crop_top,
                        spec.crop_left, spec.crop_height, spec.crop_width);
    }
};

// The frames of a clip come one by one, so a thread keeps the axes of the last frame.
const Axes& axes_of(int64_t height, int64_t width, const ResizeSpec& spec) {
    thread_local Axes kept;
    Axes wanted{height, width, spec, {}, {}};
    if (kept.key() != wanted.key()) {
        wanted.rows = make_axis(height, spec.out_height, spec.crop_top, spec.crop_height, spec);
        wanted.columns = make_axis(width, spec.out_width, spec.crop_left, spec.crop_width, spec);
        kept = std::move(wanted);
    }
    return kept;
}

uint8_t to_u8(int32_t value) { return static_cast<uint8_t>(std::min(std::max(value, 0), 255)); }

// Two rows at once: `packed` holds a byte of the one in the low half of each word and of the other in the
// high half, so one 64-bit multiplication serves both. The halves start at half a unit, and when weights may
// be negative at 2^31 more, which keeps each sum within its half; borrows in between cancel out.
template <bool kClamp>
void scale_packed_rows(const uint64_t* packed, int64_t packed_begin, const Axis& axis, uint8_t* out0,
                       uint8_t* out1) {
    constexpr uint32_t kBias = kClamp ? 0x80000000u : 0u;
    const uint64_t half = kBias + (uint64_t{1} << (axis.shift - 1));
    const uint64_t start = half | (half << 32);
    const int shift = axis.shift;
    const auto finish = [shift](uint32_t sum) {
        if constexpr (kClamp) return to_u8(static_cast<int32_t>(sum - kBias) >> shift);
        return static_cast<uint8_t>(sum >> shift);
    };
    const int64_t count = static_cast<int64_t>(axis.first.size());
    for (int64_t i = 0; i < count; ++i) {
        const uint64_t* source = packed + kChannels * (axis.source_begin(i) - packed_begin);
        const int32_t* weights = axis.weights_of(i);
        const int taps = axis.taps[static_cast<size_t>(i)];
        uint64_t c0 = start, c1 = start, c2 = start;
        for (int k = 0; k < taps; ++k, source += kChannels) {
            const uint64_t weight = static_cast<uint64_t>(static_cast<int64_t>(weights[k]));
            c0 += weight * source[0];
            c1 += weight * source[1];
            c2 += weight * source[2];
        }
        out0[kChannels * i] = finish(static_cast<uint32_t>(c0));
        out0[kChannels * i + 1] = finish(static_cast<uint32_t>(c1));
        out0[kChannels * i + 2] = finish(static_cast<uint32_t>(c2));
        out1[kChannels * i] = finish(static_cast<uint32_t>(c0 >> 32));
        out1[kChannels * i + 1] = finish(static_cast<uint32_t>(c1 >> 32));
        out1[kChannels * i + 2] = finish(static_cast<uint32_t>(c2 >> 32));
    }
}

// Scales `count` rows along x: source and out are rows of whole pixels, source_stride and the width of the
// columns' crop apart. `column_begin` is the source column that `source` starts at.
void scale_rows(const uint8_t* source, int64_t source_stride, int64_t count, int64_t column_begin,
                const Axis& columns, std::vector<uint64_t>& packed, uint8_t* out) {
    const int64_t crop_width = static_cast<int64_t>(columns.first.size());
    const int64_t packed_size = (columns.source_end(crop_width - 1) - column_begin) * kChannels;
    packed.resize(static_cast<size_t>(packed_size));
    for (int64_t y = 0; y < count; y += 2) {
        const int64_t second = std::min(y + 1, count - 1);
        const uint8_t* row0 = source + y * source_stride;
        const uint8_t* row1 = source + second * source_stride;
        for (int64_t j = 0; j < packed_size; ++j)
            packed[static_cast<size_t>(j)] = row0[j] | (static_cast<uint64_t>(row1[j]) << 32);
        uint8_t* out0 = out + y * crop_width * kChannels;
        uint8_t* out1 = out + second * crop_width * kChannels;
        if (columns.clamps)
            scale_packed_rows<true>(packed.data(), column_begin, columns, out0, out1);
        else
            scale_packed_rows<false>(packed.data(), column_begin, columns, out0, out1);
    }
}

// One output row, position i of the axis, from `bytes` bytes of each of its source rows; `source` is the
// first of them. A weight is split in two int16 factors because the baseline instruction set multiplies
// vectors of int16 but not of int32.
void scale_column(const uint8_t* source, int64_t source_stride, int64_t bytes, const Axis& rows, int64_t i,
                  uint8_t* out) {
    constexpr int kLowBits = 11;
    constexpr int64_t kBlock = 512;
    const int32_t* weights = rows.weights_of(i);
    const int taps = rows.taps[static_cast<size_t>(i)], shift = rows.shift;
    int32_t sums[kBlock];
    for (int64_t begin = 0; begin < bytes; begin += kBlock) {
        const int64_t size = std::min(kBlock, bytes - begin);
        std::fill_n(sums, size, int32_t{1} << (shift - 1));
        for (int k = 0; k < taps; ++k) {
            const uint8_t* row = source + k * source_stride + begin;
            const int16_t high = static_cast<int16_t>(weights[k] >> kLowBits);
            const int16_t low = static_cast<int16_t>(weights[k] & ((1 << kLowBits) - 1));
            for (int64_t j = 0; j < size; ++j) {
                const int16_t x = row[j];
                sums[j] += (int32_t{x} * high) * (1 << kLowBits) + int32_t{x} * low;
            }
        }
        uint8_t* target = out + begin;
        if (rows.clamps) {
            for (int64_t j = 0; j < size; ++j) target[j] = to_u8(sums[j] >> shift);
        } else {
            for (int64_t j = 0; j < size; ++j) target[j] = static_cast<uint8_t>(sums[j] >> shift);
        }
    }
}

// A frame, and how it is scaled.
struct AntialiasedFrame {
    const uint8_t* pixels;
    int64_t width;
    const Axis &rows, &columns;
    bool rows_first;
};

// Scratch memory that bands of rows share.
struct BandScratch {
    std::vector<uint64_t> packed;
    std::vector<uint8_t> between;
};

// Rows [row_begin, row_end) of the crop of one frame: one axis, rounded to bytes in between, then the other.
void antialiased_band(const AntialiasedFrame& frame, int64_t row_begin, int64_t row_end, BandScratch& scratch,
                      uint8_t* out) {
    const Axis &rows = frame.rows, &columns = frame.columns;
    std::vector<uint8_t>& between = scratch.between;
    const int64_t source_begin = rows.source_begin(row_begin), source_end = rows.source_end(row_end - 1);
    const int64_t crop_width = static_cast<int64_t>(columns.first.size());
    const int64_t column_begin = columns.source_begin(0);
    const int64_t stride = frame.width * kChannels;
    const uint8_t* corner = frame.pixels + column_begin * kChannels;
    if (frame.rows_first) {
        const int64_t bytes = (columns.source_end(crop_width - 1) - column_begin) * kChannels;
        between.resize(static_cast<size_t>((row_end - row_begin) * bytes));
        for (int64_t y = row_begin; y < row_end; ++y)
            scale_column(corner + rows.source_begin(y) * stride, stride, bytes, rows, y,
                         between.data() + (y - row_begin) * bytes);
        scale_rows(between.data(), bytes, row_end - row_begin, column_begin, columns, scratch.packed, out);
        return;
    }
    const int64_t bytes = crop_width * kChannels;
    between.resize(static_cast<size_t>((source_end - source_begin) * bytes));
    scale_rows(corner + source_begin * stride, stride, source_end - source_begin, column_begin, columns,
               scratch.packed, between.data());
    for (int64_t y = row_begin; y < row_end; ++y)
        scale_column(between.data() + (rows.source_begin(y) - source_begin) * bytes, bytes, bytes, rows, y,
                     out + (y - row_begin) * bytes);
}

// Pillow 13 and later scale the rows first when that loses clearly more pixels; the bytes in between make the
// order visible in the result. torch always starts with the columns.
bool scales_rows_first(int64_t height, int64_t width, const ResizeSpec& spec) {
    const int64_t lost_rows = height - spec.out_height, lost_columns = width - spec.out_width;
    return spec.rule == ResizeRule::kPil && lost_rows > 0 && lost_rows > 2 * lost_columns;
}

// The two taps of one output position without antialias, in float like torch's CPU kernel.
struct PlainTap {
    int64_t first = 0, second = 0;
    float first_weight = 1.0f, second_weight = 0.0f;
};

std::vector<PlainTap> make_plain_axis(int64_t in, int64_t out, int64_t crop_begin, int64_t crop_size) {
    const float scale = static_cast<float>(in) / static_cast<float>(out);
    std::vector<PlainTap> taps(static_cast<size_t>(crop_size));
    for (int64_t i = 0; i < crop_size; ++i) {
        const float center = (static_cast<float>(crop_begin + i) + 0.5f) * scale - 0.5f;
        const float source = std::max(center, 0.0f);
        PlainTap& tap = taps[static_cast<size_t>(i)];
        tap.first = std::min(static_cast<int64_t>(source), in - 1);
        tap.second = std::min(tap.first + 1, in - 1);
        tap.second_weight = std::min(std::max(source - static_cast<float>(tap.first), 0.0f), 1.0f);
        tap.first_weight = 1.0f - tap.second_weight;
    }
    return taps;
}

void plain_band(const uint8_t* frame, int64_t width, const std::vector<PlainTap>& rows,
                const std::vector<PlainTap>& columns, int64_t row_begin, int64_t row_end, uint8_t* out) {
    for (int64_t y = row_begin; y < row_end; ++y) {
        const PlainTap& row = rows[static_cast<size_t>(y)];
        const uint8_t* top = frame + row.first * width * kChannels;
        const uint8_t* bottom = frame + row.second * width * kChannels;
        for (const PlainTap& column : columns) {
            const int64_t left = column.first * kChannels, right = column.second * kChannels;
            for (int c = 0; c < kChannels; ++c) {
                const float above =
                    top[left + c] * column.first_weight + top[right + c] * column.second_weight;
                const float below =
                    bottom[left + c] * column.first_weight + bottom[right + c] * column.second_weight;
                const float value = above * row.first_weight + below * row.second_weight;
                *out++ = static_cast<uint8_t>(std::lrint(value));
            }
        }
    }
}

std::string size_text(int64_t height, int64_t width) {
    return std::to_string(height) + " x " + std::to_string(width);
}

}  // namespace

void check_resize(int64_t count, int64_t height, int64_t width, const ResizeSpec& spec) {
    check(count >= 0, kOp, [&] { return "expected 0 frames or more, got " + std::to_string(count); });
    const auto side_ok = [](int64_t side) { return side >= 1 && side <= kMaxSide; };
    check(side_ok(height) && side_ok(width), kOp,
          [&] { return "expected frames with sides of 1 to 65536 pixels, got " + size_text(height, width); });
    check(side_ok(spec.out_height) && side_ok(spec.out_width), kOp, [&] {
        return "expected an output with sides of 1 to 65536 pixels, got " +
               size_text(spec.out_height, spec.out_width);
    });
    const auto inside = [](int64_t begin, int64_t size, int64_t limit) {
        return begin >= 0 && size >= 1 && size <= limit && begin <= limit - size;
    };
    check(inside(spec.crop_top, spec.crop_height, spec.out_height) &&
              inside(spec.crop_left, spec.crop_width, spec.out_width),
          kOp, [&] {
              return "expected a crop inside the output of " + size_text(spec.out_height, spec.out_width) +
                     ", got " + size_text(spec.crop_height, spec.crop_width) + " at (" +
                     std::to_string(spec.crop_top) + ", " + std::to_string(spec.crop_left) + ")";
          });
    check(spec.rule != ResizeRule::kPlain || spec.filter == ResizeFilter::kBilinear, kOp,
          "expected the bilinear filter with the plain rule, got bicubic");
}

void resize_u8(const uint8_t* frames, int64_t count, int64_t height, int64_t width, const ResizeSpec& spec,
               uint8_t* out, int num_threads) {
    check_resize(count, height, width, spec);
    const bool plain = spec.rule == ResizeRule::kPlain;
    const Axes* axes = plain ? nullptr : &axes_of(height, width, spec);
    std::vector<PlainTap> plain_rows, plain_columns;
    if (plain) {
        plain_rows = make_plain_axis(height, spec.out_height, spec.crop_top, spec.crop_height);
        plain_columns = make_plain_axis(width, spec.out_width, spec.crop_left, spec.crop_width);
    }
    const bool rows_first = scales_rows_first(height, width, spec);
    EvenBlocks bands = even_blocks(spec.crop_height, 1, kMaxBandRows, num_threads);
    bands.count = std::min(bands.count, std::max<int64_t>(spec.crop_height / kMinBandRows, 1));
    const int64_t frame_bytes = height * width * kChannels;
    const int64_t out_row_bytes = spec.crop_width * kChannels;
    const auto body = [&](int64_t begin, int64_t end) {
        BandScratch scratch;
        for (int64_t item = begin; item < end; ++item) {
            const int64_t t = item / bands.count, band = item % bands.count;
            const int64_t row_begin = bands.begin(band), row_end = bands.begin(band + 1);
            const uint8_t* frame = frames + t * frame_bytes;
            uint8_t* target = out + (t * spec.crop_height + row_begin) * out_row_bytes;
            if (plain)
                plain_band(frame, width, plain_rows, plain_columns, row_begin, row_end, target);
            else
                antialiased_band({frame, width, axes->rows, axes->columns, rows_first}, row_begin, row_end,
                                 scratch, target);
        }
    };
    parallel_for(count * bands.count, count > 1 ? bands.count : 1, num_threads, body);
}

void lookup_u8(const std::vector<FrameU8>& frames, int64_t height, int64_t width, const float* table,
               bool reverse_channels, float* out, int num_threads) {
    const int64_t plane = height * width;
    parallel_for(static_cast<int64_t>(frames.size()), 1, num_threads, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            const FrameU8& frame = frames[static_cast<size_t>(t)];
            float* planes = out + t * kChannels * plane;
            for (int64_t y = 0; y < height; ++y) {
                const uint8_t* row = frame.data + y * frame.row_stride;
                for (int c = 0; c < kChannels; ++c) {
                    const uint8_t* source = row + (reverse_channels ? kChannels - 1 - c : c);
                    const float* values = table + c * 256;
                    float* target = planes + c * plane + y * width;
                    for (int64_t x = 0; x < width; ++x) target[x] = values[source[kChannels * x]];
                }
            }
        }
    });
}

}  // namespace qora
