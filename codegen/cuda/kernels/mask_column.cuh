// Hides pairs of a transposed tile: scores of keys by queries, minus infinity where the query does not see the key.
// Runs on partial tiles only; mask_tile.cuh has the same for tiles of queries by keys.
//
// A thread holds two keys of a tile (key and key + 8) and, of each, two neighbouring queries out of eight.
#pragma once

#include "codegen/cuda/kernels/mask_tile.cuh"

namespace harrier {

template <class Mask, int kIndex>
__device__ __forceinline__ void show_interval(const Position& at, int query, int key, uint32 (&bits)[2], int element) {
  const Interval seen = seen_interval<Mask, kIndex>(at, query);
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const bool shown = seen.begin <= key + 8 * row && key + 8 * row < seen.end;
    bits[row] |= static_cast<uint32>(shown) << element;
  }
  if constexpr (kIndex + 1 < Mask::kIntervals) show_interval<Mask, kIndex + 1>(at, query, key, bits, element);
}

/// Which of a thread's pairs count, and how often: for each of its two keys a bit for each of `kQueries` / 4 queries.
template <class Mask, int kQueries>
struct VisiblePairs {
  static_assert(kQueries <= 128, "a word has a bit for each query of a thread");
  uint32 bits[2] = {0, 0};
  uint32 digits[2][VisibleElements<Mask>::kDigits + 1] = {};

  /// `key` and `query` are the first of the thread; `note` is that of the tile's entry.
  __device__ __forceinline__ void find(const Position& at, int key, int query, uint32 note) {
    const int limit = walked_keys<Mask>(at);
    const int count = (1 + static_cast<int>(note)) & 0xff;
    if constexpr (Mask::kKind == MaskKind::kIntervals) {
#pragma unroll 4
      for (int i = 0; i < kQueries / 4; ++i) show_interval<Mask, 0>(at, query + 8 * (i / 2) + i % 2, key, bits, i);
    } else {
#pragma unroll
      for (int row = 0; row < 2; ++row) bits[row] = key + 8 * row < limit ? ~0u : 0u;
      if constexpr (Mask::kKind == MaskKind::kPredicate) {
// A loop: the predicate can be long, and is wanted only once in the code.
#pragma unroll 1
        for (int i = 0; i < kQueries / 2; ++i) {
          const int row = i & 1, element = i >> 1;
          if (key + 8 * row >= limit) continue;
          const int real_query = smaller(query + 8 * (element / 2) + element % 2, at.query_length - 1);
          const int times = Mask::visible(at, real_query, key + 8 * row, count);
          if (times == 0) bits[row] &= ~(1u << element);
#pragma unroll
          for (int digit = 0; digit < VisibleElements<Mask>::kDigits; ++digit) {
            digits[row][digit] |= (static_cast<uint32>(times) >> digit & 1) << element;
          }
        }
      }
    }
  }

  __device__ __forceinline__ int times(int row, int element) const {
    uint32 result = 0;
#pragma unroll
    for (int i = 0; i < VisibleElements<Mask>::kDigits; ++i) result |= (digits[row][i] >> element & 1) << i;
    return static_cast<int>(result);
  }
};

/// Scores in the units of q . k before the softmax's scale, as mask_tile takes them.
template <class Mask, int kQueries>
__device__ __forceinline__ void mask_column(float (&scores)[kQueries / 2], const Position& at, int key, int query,
                                            uint32 note, float score_scale, float padding_score) {
  VisiblePairs<Mask, kQueries> visible;
  visible.find(at, key, query, note);
  const int count = (1 + static_cast<int>(note)) & 0xff;
  const float unit = 1.0f / score_scale;
  const float extra = Mask::kCounted && count > 1 ? ptx::log2_fast(static_cast<float>(count)) * unit : 0.0f;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const bool valid = key + 8 * row < at.key_valid;
    const bool attended = Mask::kAdditivePadding || valid;
    const float padding = Mask::kAdditivePadding && !valid ? padding_score * unit : 0.0f;
#pragma unroll
    for (int i = 0; i < kQueries / 4; ++i) {
      float& score = scores[4 * (i / 2) + 2 * row + i % 2];
      if constexpr (kCountsPairs<Mask>) {
        score += ptx::log2_fast(static_cast<float>(visible.times(row, i))) * unit;
      } else if constexpr (Mask::kCounted) {
        score += extra;
      }
      if constexpr (Mask::kAdditivePadding) score += padding;
      score = attended && (visible.bits[row] & (1u << i)) != 0 ? score : minus_infinity();
    }
  }
}

}  // namespace harrier
