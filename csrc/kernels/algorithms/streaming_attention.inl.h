// The parts of streaming attention between its two dot products (online softmax; Milakov & Gimelshein 2018,
// blocked as in FlashAttention, Dao et al. 2022).
#pragma once

#include <math.h>

#include <cstdint>

#include "kernels/algorithms/math.inl.h"
#include "kernels/algorithms/tile.inl.h"
#include "kernels/algorithms/vectors.inl.h"
#include "kernels/kernel_table.h"

namespace qora {
namespace {

// The softmax of a block processes the rows of a tile together, because a single row would wait for its own
// results. It sums the weights as they are stored, so that numerator and denominator use the same rounded
// weights.

// Computes the factors that rescale the accumulated weights (relative to a.reference) and a block's weights
// (relative to `block`) to the larger of the two references.
template <class V>
void rescale(const SoftmaxArgs& a, int rows, const float* block) {
    for_each_vector<V>(rows, [&](int64_t r, int lanes) {
        const auto before = load_lanes<V>(a.reference + r, lanes), own = load_lanes<V>(block + r, lanes);
        const auto after = V::max(before, own);
        const auto keep = exp2<V>(before - after), gain = exp2<V>(own - after);
        const auto kept = load_lanes<V>(a.running_sum + r, lanes) * keep;
        store_lanes<V>(a.running_sum + r, V::fma(load_lanes<V>(a.weight_sum + r, lanes), gain, kept), lanes);
        store_lanes<V>(a.reference + r, after, lanes);
        store_lanes<V>(a.keep + r, keep, lanes);
        store_lanes<V>(a.gain + r, gain, lanes);
    });
}

// The columns over which packing to words spreads the scores of some keys. After the last key, columns repeat
// a key.
template <class V>
int score_columns(int keys) {
    return (keys + 2 * V::kWidth - 1) / (2 * V::kWidth) * (2 * V::kWidth);
}

// Weights in float32, whose range covers all scores, so `FarScores` changes nothing.
template <class V, int Rows>
struct F32Weights {
    template <bool FarScores>
    static void write(const SoftmaxArgs& a, const float* reference) {
        const auto* scores = static_cast<const float*>(a.scores);
        auto* to = static_cast<float*>(a.weights);
        const ptrdiff_t stride = a.score_stride, to_stride = a.weight_stride / 4;
        typename V::F factor[Rows], shift[Rows], sum[Rows];
        QORA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            factor[r] = V::set(a.row_scale[r]);
            shift[r] = V::set(-reference[r]);
            sum[r] = V::set(0.0f);
        }
        for_each_vector<V>(a.keys, [&](int64_t i, int lanes) {
            QORA_UNROLL
            for (int r = 0; r < Rows; ++r) {
                const auto score = load_lanes<V>(scores + r * stride + i, lanes, kNoScore);
                const auto distance = V::fma(score, factor[r], shift[r]);
                // A minimum returns its second operand if that is NaN.
                const auto weight = exp2<V>(V::min(V::set(64.0f), distance));
                V::store(to + r * to_stride + i, weight);
                sum[r] = sum[r] + weight;
            }
        });
        for (int r = 0; r < Rows; ++r) a.weight_sum[r] = V::sum(sum[r]);
    }
};

// Weights in bf16, computed from the distances below the reference in words, of which a vector holds twice as
// many. Words cover 31 octaves each way. A score further below has a weight of less than 2^-31. A score
// further above, beyond int32, or NaN, saturates to the largest distance above. With `FarScores`, scores are
// clamped to the range first.
template <class V, int Rows>
struct Bf16Weights {
    static constexpr int kKeys = 2 * V::kWidth;
    static constexpr float kSteps = 1 << kBf16ScoreBits;

    template <bool FarScores>
    static void write(const SoftmaxArgs& a, const float* reference) {
        const auto* scores = static_cast<const float*>(a.scores);
        auto* to = static_cast<int16_t*>(a.weights);
        const ptrdiff_t stride = a.score_stride, to_stride = a.weight_stride / 2;
        typename V::F factor[Rows], shift[Rows], sum[Rows];
        QORA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            factor[r] = V::set(-kSteps * a.row_scale[r]);
            shift[r] = V::set(kSteps * reference[r] + 0.5f * kSteps);
            sum[r] = V::set(0.0f);
        }
        const auto weights = [&](int r, int i) QORA_INLINE_BODY {
            typename V::I steps[2];
            QORA_UNROLL
            for (int v = 0; v < 2; ++v) {
                auto below = V::fma(V::load(scores + r * stride + i + v * V::kWidth), factor[r], shift[r]);
                if constexpr (FarScores) below = V::max(V::set(-4e4f), V::min(V::set(4e4f), below));
                steps[v] = V::to_int(below);
            }
            return exp2_bf16<V>(V::pack_w(steps[0], steps[1]));
        };
        const auto keep = [&](int r, int i, typename V::W w) QORA_INLINE_BODY {
            V::store_w(to + r * to_stride + i, w);
            sum[r] = V::sum_bf16(sum[r], w);
        };
        int i = 0;
        for (; i + kKeys <= a.keys; i += kKeys) {
            QORA_UNROLL
            for (int r = 0; r < Rows; ++r) keep(r, i, weights(r, i));
        }
        if (i < a.keys) {
            QORA_UNROLL
            for (int r = 0; r < Rows; ++r) keep(r, i, V::first_w(weights(r, i), a.keys - i));
        }
        for (int r = 0; r < Rows; ++r) a.weight_sum[r] = V::sum(sum[r]);
        if constexpr (FarScores) {
            for (int r = 0; r < Rows; ++r) {
                // Words cannot be NaN, so a score that is not finite makes the sum NaN.
                float defect = 0.0f * reference[r];
                for (int c = 0; c < score_columns<V>(a.keys); ++c) defect += 0.0f * scores[r * stride + c];
                a.weight_sum[r] += defect;
            }
        }
    }
};

// Float32 scores. The range of floats is so large that weights need not be relative to the largest score,
// only to one that is not far below it: the largest of the first keys, until weights become too large.
template <class V, template <class, int> class Weights, int Rows>
struct FloatSoftmax {
    static constexpr int kFirstKeys = 64;
    static constexpr float kTooLarge = 2147483648.0f;

    // Largest score of the first `keys` of each row, in units of log2.
    static void highest(const SoftmaxArgs& a, int keys, float* octaves) {
        const auto* scores = static_cast<const float*>(a.scores);
        typename V::F high[Rows];
        QORA_UNROLL
        for (int r = 0; r < Rows; ++r) high[r] = V::set(kNoScore);
        for (int i = 0; i < score_columns<V>(keys); i += V::kWidth) {
            QORA_UNROLL
            for (int r = 0; r < Rows; ++r)
                high[r] = V::max(V::load(scores + r * a.score_stride + i), high[r]);
        }
        for (int r = 0; r < Rows; ++r) octaves[r] = V::max_lane(high[r]) * a.row_scale[r];
    }
    static bool rows(const SoftmaxArgs& a) {
        float reference[Rows];
        for (int r = 0; r < Rows; ++r) reference[r] = a.reference[r];
        if (a.first) highest(a, a.keys < kFirstKeys ? a.keys : kFirstKeys, reference);
        Weights<V, Rows>::template write<false>(a, reference);
        bool fit = true;
        for (int r = 0; r < Rows; ++r) fit &= a.weight_sum[r] < kTooLarge;
        if (!fit) {
            float own[Rows];
            highest(a, a.keys, own);
            for (int r = 0; r < Rows; ++r)
                if (!(a.weight_sum[r] < kTooLarge) && own[r] > reference[r]) reference[r] = own[r];
            Weights<V, Rows>::template write<true>(a, reference);
            if (!a.first) {
                rescale<V>(a, Rows, reference);
                return false;
            }
        }
        for (int r = 0; r < Rows; ++r) {
            a.reference[r] = reference[r];
            a.running_sum[r] = a.weight_sum[r] + (a.first ? 0.0f : a.running_sum[r]);
        }
        return true;
    }
};

// Integer weights are computed from steps: the distances of kVectors vectors of scores from the maximum,
// shifted to sixteen bits. The rest is done in words, of which a vector holds twice as many.
template <class V>
struct StoreWords {
    static constexpr int kVectors = 2;
    using Value = int16_t;
    using Weights = typename V::W;
    // The unit of scores is a power of two of a step, so they need no factor.
    static Weights of(const typename V::I (&steps)[2], typename V::W) {
        return exp2_steps<V, kI16ScoreBits, kI16WeightOne, 14>(V::pack_w(steps[0], steps[1]));
    }
    static Weights first(Weights w, int n) { return V::first_w(w, n); }
    static void store(Value* p, Weights w) { V::store_w(p, w); }
    static typename V::I add(typename V::I sum, Weights w) { return V::sum_pairs(sum, w); }
};

template <class V>
constexpr int kI8WeightOne = V::kI8Offset == 0 ? 255 : 127;

template <class V>
struct StoreBytes {
    static constexpr int kVectors = 2 * V::kWordsOfB;
    using Value = uint8_t;
    using Weights = typename V::B;
    static Weights of(const typename V::I (&steps)[kVectors], typename V::W factor) {
        typename V::W words[V::kWordsOfB];
        QORA_UNROLL
        for (int i = 0; i < V::kWordsOfB; ++i) {
            const auto distance = V::mul_w(V::pack_w(steps[2 * i], steps[2 * i + 1]), factor);
            words[i] = exp2_steps<V, kI8ScoreBits, kI8WeightOne<V>, 9>(distance);
        }
        return V::pack_b(words);
    }
    static Weights first(Weights w, int n) { return V::first_b(w, n); }
    static void store(Value* p, Weights w) { V::store_b(p, w); }
    static typename V::I add(typename V::I sum, Weights w) { return V::sum_bytes(sum, w); }
};

template <class V, class Stored, int Rows>
struct IntegerSoftmax {
    static constexpr int kKeys = Stored::kVectors * V::kWidth;

    // Packing spreads kKeys keys over all their vectors, so the maximum is that of whole vectors. Columns
    // after the last key repeat a score.
    static void max(const SoftmaxArgs& a, int32_t* highest) {
        const auto* scores = static_cast<const int32_t*>(a.scores);
        const ptrdiff_t stride = a.score_stride;
        const int keys = (a.keys + kKeys - 1) / kKeys * kKeys;
        typename V::I high[Rows];
        QORA_UNROLL
        for (int r = 0; r < Rows; ++r) high[r] = V::load_i(scores + r * stride);
        for (int i = V::kWidth; i < keys; i += V::kWidth) {
            QORA_UNROLL
            for (int r = 0; r < Rows; ++r) high[r] = V::max_i(V::load_i(scores + r * stride + i), high[r]);
        }
        for (int r = 0; r < Rows; ++r) highest[r] = V::max_lane_i(high[r]);
    }
    // `to_steps(d, r)` converts differences of row r's scores to steps.
    template <class ToSteps>
    static void write_steps(const SoftmaxArgs& a, const int32_t* highest, float* sums, ToSteps to_steps) {
        const auto* scores = static_cast<const int32_t*>(a.scores);
        auto* to = static_cast<typename Stored::Value*>(a.weights);
        const ptrdiff_t stride = a.score_stride,
                        to_stride = a.weight_stride / static_cast<ptrdiff_t>(sizeof(typename Stored::Value));
        const int keys = a.keys;
        typename V::I top[Rows], sum[Rows];
        typename V::W factor[Rows];
        QORA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            top[r] = V::set_i(highest[r]);
            sum[r] = V::set_i(0);
            factor[r] = V::set_w(a.row_factor[r]);
        }
        const auto weights = [&](int r, int i) {
            typename V::I steps[Stored::kVectors];
            QORA_UNROLL
            for (int v = 0; v < Stored::kVectors; ++v)
                steps[v] = to_steps(top[r] - V::load_i(scores + r * stride + i + v * V::kWidth), r);
            return Stored::of(steps, factor[r]);
        };
        int i = 0;
        for (; i + kKeys <= keys; i += kKeys) {
            QORA_UNROLL
            for (int r = 0; r < Rows; ++r) {
                const auto w = weights(r, i);
                Stored::store(to + r * to_stride + i, w);
                sum[r] = Stored::add(sum[r], w);
            }
        }
        if (i < keys) {
            QORA_UNROLL
            for (int r = 0; r < Rows; ++r) {
                const auto w = Stored::first(weights(r, i), keys - i);
                Stored::store(to + r * to_stride + i, w);
                sum[r] = Stored::add(sum[r], w);
            }
        }
        QORA_UNROLL
        for (int r = 0; r < Rows; ++r) sums[r] = V::sum(V::to_float(sum[r]));
    }
    static void write(const SoftmaxArgs& a, const int32_t* highest, float* sums) {
        bool huge = false;
        for (int r = 0; r < Rows; ++r) huge |= a.row_shift[r] < 0;
        const int32_t* shifts = a.row_shift;
        if (!huge)
            return write_steps(a, highest, sums,
                               [=](auto d, int r) { return V::shift_right_i(d, shifts[r]); });
        // Scores so large that their unit is more than a step. Beyond 2^15 steps every weight is zero.
        write_steps(a, highest, sums, [=](auto d, int r) {
            const int left = shifts[r] < -15 ? 15 : shifts[r] < 0 ? -shifts[r] : 0;
            const auto near = V::min_i(V::shift_right_i(d, shifts[r] > 0 ? shifts[r] : 0), V::set_i(1 << 15));
            return near * V::set_i(1 << left);
        });
    }
    static bool rows(const SoftmaxArgs& a) {
        int32_t highest[Rows];
        float reference[Rows];
        max(a, highest);
        write(a, highest, a.weight_sum);
        for (int r = 0; r < Rows; ++r) reference[r] = static_cast<float>(highest[r]) * a.row_scale[r];
        rescale<V>(a, Rows, reference);
        return false;
    }
};

// The SoftmaxFn of a family, with one instance for each number of rows, like the tile.
template <class V, template <class, int> class Of, int MaxRows>
bool softmax(const SoftmaxArgs& a) {
    if constexpr (MaxRows > 1) {
        if (a.rows < MaxRows) return softmax<V, Of, MaxRows - 1>(a);
    }
    return Of<V, MaxRows>::rows(a);
}

template <class V, int Rows>
using F32Softmax = FloatSoftmax<V, F32Weights, Rows>;
template <class V, int Rows>
using Bf16Softmax = FloatSoftmax<V, Bf16Weights, Rows>;
template <class V, int Rows>
using WordSoftmax = IntegerSoftmax<V, StoreWords<V>, Rows>;
template <class V, int Rows>
using ByteSoftmax = IntegerSoftmax<V, StoreBytes<V>, Rows>;

// Orders of a panel's columns: the natural order, and the orders from which packing vectors to words or bytes
// gives the natural one.
inline int same_column(int key) { return key; }
template <class V>
int packed_column(int key) {
    return key / (2 * V::kWidth) * (2 * V::kWidth) + V::packed_column(key % (2 * V::kWidth));
}
template <class V>
int byte_column(int key) {
    constexpr int kKeys = StoreBytes<V>::kVectors * V::kWidth;
    return key / kKeys * kKeys + V::byte_column(key % kKeys);
}

// `product(w, i)` is a row's share of this block.
template <class V, class Product>
QORA_INLINE void merge_row(const MergeArgs& m, int row, Product product) {
    float* out = m.out + row * m.out_stride;
    const float keep = m.keep[row], gain = m.gain[row];
    for_each_wide<V>(m.cols, [=](auto w, int64_t i, auto) QORA_INLINE_BODY {
        using W = decltype(w);
        const auto kept = m.first ? W::set(0.0f) : W::load(out + i) * W::set(keep);
        W::store(out + i, W::fma(product(w, i), W::set(gain), kept));
    });
}

template <class V>
void merge(const MergeArgs& m) {
    for (int r = 0; r < m.rows; ++r) {
        if (!m.integer) {
            const auto* acc = static_cast<const float*>(m.acc) + r * m.acc_stride;
            merge_row<V>(m, r, [=](auto w, int64_t i) { return decltype(w)::load(acc + i); });
            continue;
        }
        // Whether a row's parts are added as integers depends only on that row, so its result does not depend
        // on other rows.
        const auto* acc = static_cast<const int32_t*>(m.acc) + r * m.acc_stride;
        if (m.parts == 1 || m.weight_sum[r] <= kI16WeightSum)
            merge_row<V>(m, r, [=](auto w, int64_t i) {
                using W = decltype(w);
                auto sum = W::load_i(acc + i);
                for (int part = 1; part < m.parts; ++part)
                    sum = sum + W::load_i(acc + part * m.part_stride + i);
                return W::to_float(sum);
            });
        else
            merge_row<V>(m, r, [=](auto w, int64_t i) {
                using W = decltype(w);
                auto sum = W::to_float(W::load_i(acc + i));
                for (int part = 1; part < m.parts; ++part)
                    sum = sum + W::to_float(W::load_i(acc + part * m.part_stride + i));
                return sum;
            });
    }
}

}  // namespace
}  // namespace qora
