// What a generated pattern provides, and its defaults: a Mask (which keys a query sees) and a Score.
#pragma once

#include "codegen/cuda/kernels/params.cuh"

namespace harrier {

/// Everything but query and key that a mask or a score may ask for.
struct Position {
  const PatternArguments& arguments;
  int batch;
  int head;
  int query_length;  // extents
  int key_length;
  int query_token;  // of query 0 / key 0 in the packed order of the batch
  int key_token;
  int key_valid;

  /// The query's position among the keys (bottom-right alignment).
  __device__ __forceinline__ int aligned(int query) const { return query + (key_length - query_length); }
};

enum class MaskKind {
  kNone,       // every listed key is visible
  kIntervals,  // a query sees the union of kIntervals intervals
  kPredicate,  // ask visible(position, query, key, count); the intervals hold all that it can show
};

enum class KeySourceKind {
  kClosedForm,  // key tiles follow from the mask's intervals
  kLists,       // KeyLists says which boxes of keys a row sees
};

/// A mask that shows every key, and what a generated mask inherits where it has nothing to say.
struct NoMask {
  /// Bounds of intervals that have none.
  static constexpr int kFarAway = 0x7fffffff;
  static constexpr MaskKind kKind = MaskKind::kNone;
  static constexpr int kIntervals = 1;
  static constexpr bool kCounted = false;  // boxes may count more than once
  /// Keys past the valid ones are attended like others, with ForwardParams::padding_score added to their scores.
  static constexpr bool kAdditivePadding = false;
  /// Keys of the extent that the mask hides count exp(0) in the softmax's denominator. Excluded padding does not.
  static constexpr bool kPrunedAsZero = false;

  /// The keys of interval `kIndex`. Its bounds do not fall as the query grows.
  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int) {
    return {0, at.key_length};
  }
  /// The queries that have interval `kIndex`; others see nothing of it.
  template <int kIndex>
  static __device__ __forceinline__ Interval queries(const Position&) {
    return {-kFarAway, kFarAway};
  }
  static __device__ __forceinline__ int visible(const Position&, int, int, int) { return 1; }
};

/// One past the last key that may be attended: what lies beyond is not even loaded.
template <class Mask>
__device__ __forceinline__ int attended_keys(const Position& at) {
  return Mask::kAdditivePadding ? at.key_length : at.key_valid;
}

/// One past the last key whose tiles a row walks. Excluded padding is walked where the keys of it that the mask shows
/// have to be told from those that it hides.
template <class Mask>
__device__ __forceinline__ int walked_keys(const Position& at) {
  const bool counts_padding = Mask::kPrunedAsZero && at.key_valid > 0;
  return counts_padding ? at.key_length : attended_keys<Mask>(at);
}

/// The score is q . k, scaled by ForwardParams::score_scale.
struct ScaledScore {
  static constexpr bool kIdentity = true;
  static __device__ __forceinline__ float score(const Position&, float s, int, int) { return s; }
};

/// Nothing is added to the softmax's denominator.
struct NoSink {
  static constexpr bool kExists = false;
  static __device__ __forceinline__ float logit(const Position&) { return 0.0f; }
};

}  // namespace harrier
