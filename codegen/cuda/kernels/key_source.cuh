// Which key tiles a row sees, as the producer warp walks them: partial tiles first, then full ones. Consumers see no
// difference between the ways.
#pragma once

#include "codegen/cuda/kernels/pattern.cuh"
#include "codegen/cuda/kernels/ptx.cuh"

namespace harrier {

/// Numbers of a row's tiles that need a mask, and of those that do not.
struct TileCounts {
  int partial;
  int full;
};

/// How much of some keys some queries see.
enum class Visibility : int { kEmpty, kPartial, kFull };

/// What the mask's intervals say of queries [query_begin, query_end). Their bounds do not fall as the query grows, so
/// the first query's lower and the last one's upper bound enclose every key that any of the queries sees, and the other
/// two only keys that all of them see.
template <class Mask, bool kExact>
struct RowIntervals {
  Interval hull[Mask::kIntervals];
  Interval inner[Mask::kIntervals];

  template <int kIndex = 0>
  __device__ __forceinline__ void set(const Position& at, int query_begin, int query_end) {
    const Interval queries = Mask::template queries<kIndex>(at);
    const int first = larger(query_begin, queries.begin), last = smaller(query_end, queries.end) - 1;
    hull[kIndex] = inner[kIndex] = {0, 0};
    if (first <= last) {
      const Interval low = Mask::template interval<kIndex>(at, first);
      const Interval high = Mask::template interval<kIndex>(at, last);
      hull[kIndex] = {larger(low.begin, 0), smaller(high.end, walked_keys<Mask>(at))};
      // A predicate may hide keys inside its intervals; an interval that some query lacks is full for none.
      const bool all = first == query_begin && last == query_end - 1 && kExact;
      if (all) inner[kIndex] = {larger(high.begin, 0), smaller(low.end, at.key_valid)};
    }
    if constexpr (kIndex + 1 < Mask::kIntervals) set<kIndex + 1>(at, query_begin, query_end);
  }

  /// What the queries see of keys [begin, end): kPartial also where they may see nothing.
  __device__ __forceinline__ Visibility of(int begin, int end) const {
    Visibility visibility = Visibility::kEmpty;
#pragma unroll
    for (int i = 0; i < Mask::kIntervals; ++i) {
      const bool may_show = begin < hull[i].end && hull[i].begin < end;
      if (may_show && visibility == Visibility::kEmpty) visibility = Visibility::kPartial;
      if (inner[i].begin <= begin && end <= inner[i].end) visibility = Visibility::kFull;
    }
    return visibility;
  }
};

/// From the mask's intervals. A warp classifies 32 tiles at a time.
template <class Config, class Mask>
class ClosedFormKeys {
 public:
  ClosedFormKeys() = default;
  __device__ __forceinline__ ClosedFormKeys(const Position& at, const KeyLists&, int, int query_begin, int query_end,
                                            int lane)
      : lane_(lane) {
    bounds_.set(at, query_begin, query_end);
  }

  __device__ __forceinline__ TileCounts count() const {
    TileCounts counts{0, 0};
    for (int base = seek(0); base != kNoTile; base = seek(base + 32)) {
      const Visibility kind = classify(base + lane_);
      counts.partial += __popc(__ballot_sync(0xffffffffu, kind == Visibility::kPartial));
      counts.full += __popc(__ballot_sync(0xffffffffu, kind == Visibility::kFull));
    }
    return counts;
  }

  /// Starts giving tiles, at the `first`-th.
  __device__ __forceinline__ void start(int first) {
    wanted_ = Visibility::kPartial;
    base_ = kBeforeTiles;
    found_ = 0;
    to_skip_ = first;
  }

  /// The next tile's box (its only one). There must be one left. The only place where tiles are looked for, as it is
  /// compiled wherever it is called.
  __device__ __forceinline__ int next() {
    int tile;
    do {
      while (found_ == 0) {
        base_ = seek(base_ + 32);
        if (base_ == kNoTile) {
          wanted_ = Visibility::kFull;
          base_ = kBeforeTiles;
        } else {
          found_ = __ballot_sync(0xffffffffu, classify(base_ + lane_) == wanted_);
        }
      }
      tile = base_ + __ffs(static_cast<int>(found_)) - 1;
      found_ &= found_ - 1;
    } while (to_skip_-- > 0);
    return tile;
  }

 private:
  static constexpr int kNoTile = 0x7fffffff;
  static constexpr int kBeforeTiles = -32;

  /// The first tile at or after `tile` from which on there may be visible keys.
  __device__ __forceinline__ int seek(int tile) const {
    int found = kNoTile;
#pragma unroll
    for (int i = 0; i < Mask::kIntervals; ++i) {
      const Interval hull = bounds_.hull[i];
      if (hull.begin < hull.end && tile <= (hull.end - 1) / Config::kTileK) {
        found = smaller(found, larger(tile, hull.begin / Config::kTileK));
      }
    }
    return found;
  }

  __device__ __forceinline__ Visibility classify(int tile) const {
    return bounds_.of(tile * Config::kTileK, (tile + 1) * Config::kTileK);
  }

  RowIntervals<Mask, Mask::kKind != MaskKind::kPredicate> bounds_;
  int lane_;
  int base_ = kBeforeTiles;
  int to_skip_ = 0;
  uint32 found_ = 0;
  Visibility wanted_ = Visibility::kPartial;
};

/// From lists: a lane holds one entry of 32 loaded at once.
template <class Config, class Mask>
class ListedKeys {
 public:
  ListedKeys() = default;
  __device__ __forceinline__ ListedKeys(const Position& at, const KeyLists& lists, int query_tile, int, int, int lane)
      : entries_(lists.entries), lane_(lane) {
    const int row = first_row(lists.rows_per_batch, at.batch, at.query_token, Config::kTileQ) +
                    at.head * lists.rows_per_head + query_tile;
    begin_ = lists.row_begin[row];
    end_ = lists.row_end[row];
    partial_ = lists.partial_tiles[row];
  }

  __device__ __forceinline__ TileCounts count() const { return {partial_, (end_ - begin_) / kBoxes - partial_}; }

  __device__ __forceinline__ void start(int first) { index_ = begin_ + first * kBoxes; }

  /// The next box; a tile takes kBoxes of them.
  __device__ __forceinline__ int next() {
    if (loaded_ == 0) {
      cache_ = index_ + lane_ < end_ ? entries_[index_ + lane_] : kNoBox;
      loaded_ = 32;
    }
    const int entry = ptx::broadcast(cache_, 32 - loaded_);
    --loaded_;
    ++index_;
    return entry;
  }

 private:
  static constexpr int kBoxes = Config::kTileK / Config::kBoxRows;
  const int* entries_;
  int lane_;
  int begin_;
  int end_;
  int partial_;
  int index_ = 0;
  int cache_ = 0;
  int loaded_ = 0;
};

template <class Config, class Mask, KeySourceKind kKind>
struct KeySourceOf {
  using Type = ClosedFormKeys<Config, Mask>;
};
template <class Config, class Mask>
struct KeySourceOf<Config, Mask, KeySourceKind::kLists> {
  using Type = ListedKeys<Config, Mask>;
};
template <class Config, class Mask>
using KeySource = typename KeySourceOf<Config, Mask, Config::kKeySource>::Type;

}  // namespace harrier
