// Which query tiles see a column, as a warp walks them: partial tiles first, then full ones, each kind rising. The
// counterpart of key_source.cuh.
#pragma once

#include "codegen/cuda/kernels/column_work.cuh"
#include "codegen/cuda/kernels/key_source.cuh"

namespace harrier {

/// The first of [begin, end) for which `holds` is true, given that it stays true from there on; `end` if there is none.
/// All lanes of a warp, 32 places at a time.
template <class Holds>
__device__ __forceinline__ int first_that(int begin, int end, int lane, Holds holds) {
  while (begin < end) {
    const int step = divide_up(end - begin, 32);
    const int place = begin + lane * step;
    const uint32 found = __ballot_sync(0xffffffffu, place >= end || holds(place));
    const int before = found == 0 ? 32 : __ffs(static_cast<int>(found)) - 1;  // places that do not hold
    if (before < 32) end = smaller(end, begin + before * step);
    if (before > 0) begin += (before - 1) * step + 1;
  }
  return begin;
}

/// From the mask's intervals. Their bounds do not fall as the query grows, so the queries whose interval ends past the
/// column's first key are all from one on, those whose interval begins before its end all up to one: together they are
/// an interval of queries.
template <class Config, class Mask>
class ClosedFormQueries {
 public:
  __device__ __forceinline__ ClosedFormQueries(const Position& at, const QueryLists&, int key_tile, int query_valid,
                                               int lane)
      : at_(at), key_begin_(key_tile * Config::kTileK), query_valid_(query_valid), lane_(lane) {
    set(at);
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
    base_ = seek(0);
    find();
    for (int i = 0; i < first; ++i) next();
  }

  /// The next query tile. There must be one left.
  __device__ __forceinline__ int next() {
    while (found_ == 0) {
      base_ = seek(base_ + 32);
      if (base_ == kNoTile) {
        wanted_ = Visibility::kFull;
        base_ = seek(0);
      }
      find();
    }
    const int tile = base_ + __ffs(static_cast<int>(found_)) - 1;
    found_ &= found_ - 1;
    return tile;
  }

 private:
  static constexpr int kNoTile = 0x7fffffff;

  template <int kIndex = 0>
  __device__ __forceinline__ void set(const Position& at) {
    const Interval queries = Mask::template queries<kIndex>(at);
    const int begin = larger(queries.begin, 0), end = smaller(queries.end, query_valid_);
    const int key_end = smaller(key_begin_ + Config::kTileK, walked_keys<Mask>(at));
    hull_[kIndex] = {0, 0};
    if (begin < end && key_begin_ < key_end) {
      hull_[kIndex].begin =
          first_that(begin, end, lane_, [&](int q) { return Mask::template interval<kIndex>(at, q).end > key_begin_; });
      hull_[kIndex].end = first_that(hull_[kIndex].begin, end, lane_,
                                     [&](int q) { return Mask::template interval<kIndex>(at, q).begin >= key_end; });
    }
    if constexpr (kIndex + 1 < Mask::kIntervals) set<kIndex + 1>(at);
  }

  /// The first tile at or after `tile` from which on there may be queries that see the column.
  __device__ __forceinline__ int seek(int tile) const {
    int found = kNoTile;
#pragma unroll
    for (int i = 0; i < Mask::kIntervals; ++i) {
      const Interval hull = hull_[i];
      if (hull.begin < hull.end && tile <= (hull.end - 1) / Config::kTileQ) {
        found = smaller(found, larger(tile, hull.begin / Config::kTileQ));
      }
    }
    return found;
  }

  __device__ __forceinline__ Visibility classify(int tile) const {
    const int begin = tile * Config::kTileQ, end = smaller(begin + Config::kTileQ, query_valid_);
    if (begin >= end) return Visibility::kEmpty;
    RowIntervals<Mask, Mask::kKind != MaskKind::kPredicate> bounds;
    bounds.set(at_, begin, end);
    return bounds.of(key_begin_, key_begin_ + Config::kTileK);
  }

  __device__ __forceinline__ void find() {
    found_ = base_ == kNoTile ? 0 : __ballot_sync(0xffffffffu, classify(base_ + lane_) == wanted_);
  }

  const Position at_;
  Interval hull_[Mask::kIntervals];
  int key_begin_;
  int query_valid_;
  int lane_;
  int base_ = 0;
  uint32 found_ = 0;
  Visibility wanted_ = Visibility::kPartial;
};

/// From lists: a lane holds one entry of 32 loaded at once.
template <class Config, class Mask>
class ListedQueries {
 public:
  __device__ __forceinline__ ListedQueries(const Position& at, const QueryLists& lists, int key_tile, int, int lane)
      : entries_(lists.entries), lane_(lane) {
    const int column = first_row(lists.columns_per_batch, at.batch, at.key_token, Config::kTileK) +
                       at.head * lists.columns_per_head + key_tile;
    begin_ = lists.column_begin[column];
    end_ = lists.column_end[column];
    partial_ = lists.partial_tiles[column];
  }

  __device__ __forceinline__ TileCounts count() const { return {partial_, end_ - begin_ - partial_}; }

  __device__ __forceinline__ void start(int first) {
    index_ = begin_ + first;
    loaded_ = 0;
  }

  /// The next entry: query tile and note.
  __device__ __forceinline__ int next() {
    if (loaded_ == 0) {
      cache_ = index_ + lane_ < end_ ? entries_[index_ + lane_] : 0;
      loaded_ = 32;
    }
    const int entry = ptx::broadcast(cache_, 32 - loaded_);
    --loaded_;
    ++index_;
    return entry;
  }

 private:
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
struct QuerySourceOf {
  using Type = ClosedFormQueries<Config, Mask>;
};
template <class Config, class Mask>
struct QuerySourceOf<Config, Mask, KeySourceKind::kLists> {
  using Type = ListedQueries<Config, Mask>;
};
template <class Config, class Mask>
using QuerySource = typename QuerySourceOf<Config, Mask, Config::kKeySource>::Type;

/// Query tiles of a column, over all heads that read its key head. All lanes of a warp. `Column` is ColumnWork,
/// or the volatile one that lies in shared memory.
template <class Config, class Mask, class Source = QuerySource<Config, Mask>, class Column>
__device__ __forceinline__ int count_column(const PatternArguments& arguments, const QueryLists& lists,
                                            const Column& column, int heads_per_kv_head, int lane) {
  int tiles = 0;
  for (int i = 0; i < heads_per_kv_head; ++i) {
    const Position at = position_of(arguments, column, column.kv_head * heads_per_kv_head + i);
    const Source queries(at, lists, column.key_begin / Config::kTileK, column.query_valid, lane);
    const TileCounts counts = queries.count();
    tiles += counts.partial + counts.full;
  }
  return tiles;
}

/// Calls visit(head, entry, partial) for query tiles [first, limit) of a column, head after head. All lanes of a warp.
template <class Config, class Mask, class Column, class Visit>
__device__ __forceinline__ void walk_column(const PatternArguments& arguments, const QueryLists& lists,
                                            const Column& column, int heads_per_kv_head, int first, int limit, int lane,
                                            Visit visit) {
  // What is left of [first, limit) from this head's tiles on.
  for (int i = 0; i < heads_per_kv_head && limit > 0; ++i) {
    const int head = column.kv_head * heads_per_kv_head + i;
    const Position at = position_of(arguments, column, head);
    QuerySource<Config, Mask> queries(at, lists, column.key_begin / Config::kTileK, column.query_valid, lane);
    const TileCounts counts = queries.count();
    const int tiles = counts.partial + counts.full;
    const int end = smaller(limit, tiles);
    if (first < end) queries.start(first);
#pragma unroll 1
    for (int tile = first; tile < end; ++tile) visit(head, queries.next(), tile < counts.partial);
    first = larger(first - tiles, 0);
    limit -= tiles;
  }
}

}  // namespace harrier
