// Hides what a query does not see in a key tile: minus infinity in its scores. Runs on partial tiles only.
//
// A thread holds two rows of a 64-row tile (row and row + 8) and, of each, two neighbouring columns out of eight.
#pragma once

#include "codegen/cuda/kernels/pattern.cuh"
#include "codegen/cuda/kernels/ptx.cuh"

namespace harrier {

/// How many of this thread's elements of a row lie before column `limit`, counted from its own first column: even
/// elements are in columns 8 j, odd ones in 8 j + 1. Something below 0 where `limit` is.
__device__ __forceinline__ int elements_before(int limit) { return ((limit + 7) >> 3) + ((limit + 6) >> 3); }

/// One bit for each of this thread's elements 32 * chunk ... of a row: set when its key lies in the interval.
__device__ __forceinline__ uint32 interval_bits(Interval interval, int first_key, int chunk) {
  const uint32 from_end = ptx::bits_from(elements_before(interval.end - first_key) - 32 * chunk);
  const uint32 from_begin = ptx::bits_from(elements_before(interval.begin - first_key) - 32 * chunk);
  return from_begin & ~from_end;
}

/// The keys of interval `kIndex` that a query sees.
template <class Mask, int kIndex>
__device__ __forceinline__ Interval seen_interval(const Position& at, int query) {
  Interval interval = Mask::template interval<kIndex>(at, query);
  const Interval queries = Mask::template queries<kIndex>(at);
  // Most intervals are every query's, which the compiler sees.
  const bool applies = (queries.begin == -Mask::kFarAway || queries.begin <= query) &&
                       (queries.end == Mask::kFarAway || query < queries.end);
  interval.end = applies ? smaller(interval.end, walked_keys<Mask>(at)) : 0;
  return interval;
}

template <class Mask, int kIndex>
__device__ __forceinline__ uint32 union_bits(const Position& at, int query, int first_key, int chunk) {
  uint32 bits = interval_bits(seen_interval<Mask, kIndex>(at, query), first_key, chunk);
  if constexpr (kIndex + 1 < Mask::kIntervals) bits |= union_bits<Mask, kIndex + 1>(at, query, first_key, chunk);
  return bits;
}

/// The keys that this thread's two rows of a tile see, where that is one interval each: looked up once for all tiles of
/// the rows, early enough for what has to be loaded to be there. Otherwise nothing, and every tile finds it anew.
template <class Mask, bool kKept = Mask::kKind == MaskKind::kIntervals && Mask::kIntervals == 1>
struct SeenKeys {
  static constexpr bool kIsKept = false;
  __device__ __forceinline__ void find(const Position&, int) {}
};
template <class Mask>
struct SeenKeys<Mask, true> {
  static constexpr bool kIsKept = true;
  Interval interval[2];
  /// `query` is the position of the first row, the second is 8 further down.
  __device__ __forceinline__ void find(const Position& at, int query) {
    for (int row = 0; row < 2; ++row) interval[row] = seen_interval<Mask, 0>(at, query + 8 * row);
  }
};

/// True where pairs of one box may count differently, as the predicate says.
template <class Mask>
inline constexpr bool kCountsPairs = Mask::kCounted && Mask::kKind == MaskKind::kPredicate;

/// What a row's mask says of 32 elements: a bit for each that is visible and, where pairs count differently, how often
/// each counts, digit by digit.
template <class Mask>
struct VisibleElements {
  static constexpr int kDigits = kCountsPairs<Mask> ? 8 : 0;
  uint32 bits;
  uint32 digits[larger(kDigits, 1)] = {};

  __device__ __forceinline__ void count(int element, int times) {
#pragma unroll
    for (int i = 0; i < kDigits; ++i) digits[i] |= (static_cast<uint32>(times) >> i & 1) << element;
  }
  __device__ __forceinline__ int times(int element) const {
    uint32 result = 0;
#pragma unroll
    for (int i = 0; i < kDigits; ++i) result |= (digits[i] >> element & 1) << i;
    return static_cast<int>(result);
  }
};

/// The visible elements of one row in one box, 32 from `chunk` on.
template <class Mask, int kElements>
__device__ __forceinline__ VisibleElements<Mask> visible_elements(const Position& at, int query, int first_key,
                                                                  int count, int chunk) {
  if constexpr (Mask::kKind == MaskKind::kIntervals) {
    return {union_bits<Mask, 0>(at, query, first_key, chunk)};
  } else {
    const int limit = walked_keys<Mask>(at);
    VisibleElements<Mask> visible{interval_bits({0, limit}, first_key, chunk)};
    if constexpr (Mask::kKind == MaskKind::kPredicate) {
      const int real_query = smaller(query, at.query_length - 1);  // arrays end where the sequence does
// A loop: the predicate can be long, and is wanted only once in the code.
#pragma unroll 1
      for (int i = 0; i < smaller(32, kElements); ++i) {
        const int element = 32 * chunk + i;
        const int key = first_key + 8 * (element / 2) + element % 2;
        if (element >= kElements || static_cast<uint32>(key) >= static_cast<uint32>(limit)) continue;  // holes, too
        const int times = Mask::visible(at, real_query, key, count);
        if (times == 0) visible.bits &= ~(1u << i);
        visible.count(i, times);
      }
    }
    return visible;
  }
}

/// `query` is the position of this thread's first row, `seen` what was found for it; `boxes` says which keys the tile's
/// boxes hold, `params` what scores are scaled by and what padding adds. Under pruned_as_zero, adds to `shown` how many
/// of this thread's keys the mask shows to each row.
template <class Config, class Mask, class Seen, class Params>
__device__ __forceinline__ void mask_tile(float (&scores)[Config::kTileK / 2], const Position& at, int query,
                                          const Seen& seen, const volatile int* boxes, int lane, const Params& params,
                                          int (&shown)[2]) {
  constexpr int kBoxes = Config::kTileK / Config::kBoxRows;
  constexpr int kElements = Config::kBoxRows / 4;  // of one row in one box
#pragma unroll
  for (int box = 0; box < kBoxes; ++box) {
    const uint32 entry = static_cast<uint32>(boxes[box]);
    const int first_key = static_cast<int>(entry & kNoBox) * Config::kBoxRows + 2 * (lane & 3);
    const int count = (1 + static_cast<int>(entry >> 24)) & 0xff;
    // A key that counts n times weighs n in the softmax: log(n) more score.
    const float unit = 1.0f / params.score_scale;
    const float extra = Mask::kCounted && count > 1 ? ptx::log2_fast(static_cast<float>(count)) * unit : 0.0f;
    const float padding = Mask::kAdditivePadding ? params.padding_score * unit : 0.0f;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
#pragma unroll
      for (int chunk = 0; chunk < divide_up(kElements, 32); ++chunk) {
        VisibleElements<Mask> visible;
        if constexpr (Seen::kIsKept) {
          visible.bits = interval_bits(seen.interval[row], first_key, chunk);
        } else {
          visible = visible_elements<Mask, kElements>(at, query + 8 * row, first_key, count, chunk);
        }
        uint32 bits = visible.bits;
        if constexpr (Mask::kPrunedAsZero) shown[row] += __popc(bits & ~ptx::bits_from(kElements - 32 * chunk));
        uint32 valid = ~0u;
        if constexpr (Mask::kPrunedAsZero || Mask::kAdditivePadding) {
          valid = interval_bits({0, at.key_valid}, first_key, chunk);
        }
        if constexpr (!Mask::kAdditivePadding) bits &= valid;
#pragma unroll
        for (int i = 0; i < smaller(32, kElements); ++i) {
          const int element = 32 * chunk + i;
          if (element < kElements) {
            float& score = scores[4 * (box * (Config::kBoxRows / 8) + element / 2) + 2 * row + element % 2];
            if constexpr (kCountsPairs<Mask>) {
              score += ptx::log2_fast(static_cast<float>(visible.times(i))) * unit;
            } else if constexpr (Mask::kCounted) {
              score += extra;
            }
            if constexpr (Mask::kAdditivePadding) score += (valid & (1u << i)) != 0 ? 0.0f : padding;
            score = (bits & (1u << i)) != 0 ? score : minus_infinity();
          }
        }
      }
    }
  }
}

/// Applies a score expression to every element of a tile. Queries and keys past the end of the sequence, and holes, are
/// taken for its last ones: what comes of them is hidden or never stored, but arrays end where the sequence does.
template <class Config, class Score>
__device__ __forceinline__ void score_tile(float (&scores)[Config::kTileK / 2], const Position& at, int query,
                                           const volatile int* boxes, int lane) {
  constexpr int kBoxes = Config::kTileK / Config::kBoxRows;
#pragma unroll
  for (int box = 0; box < kBoxes; ++box) {
    const int entry = static_cast<int>(static_cast<uint32>(boxes[box]) & kNoBox);
    const int first_key = entry == kNoBox ? at.key_length : entry * Config::kBoxRows + 2 * (lane & 3);
#pragma unroll
    for (int i = 0; i < Config::kBoxRows / 2; ++i) {
      float& score = scores[box * (Config::kBoxRows / 2) + i];
      score = Score::score(at, score, smaller(query + 8 * ((i >> 1) & 1), at.query_length - 1),
                           smaller(first_key + 8 * (i >> 2) + (i & 1), at.key_length - 1));
    }
  }
}

}  // namespace harrier
