// Which query tiles see a column, as deterministic kernels walk them: each head's falling, whether they need a mask or
// not, and each with its turn, which is how many columns add to dQ of the tile before this one. Columns of a head that
// run side by side then pass a tile one after the other in the order of their turns, and wait for each other little:
// under causal masks and windows a column comes to a tile when the one before it has left it.
#pragma once

#include "codegen/cuda/kernels/query_source.cuh"

namespace harrier {

struct OrderedEntry {
  int entry;  // query tile and note, as QueryLists has them
  bool partial;
  int turn;
};

/// How many numbers of [0, limit) lie in some of the intervals.
template <int kCount>
__device__ __forceinline__ int count_below(const Interval (&intervals)[kCount], int limit) {
  int count = 0, at = 0;
#pragma unroll 1
  for (int round = 0; round < kCount; ++round) {
    int begin = limit,
        end = at;  // of the next stretch: the first number that is left, and what reaches furthest from it
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (intervals[i].end > at) begin = smaller(begin, larger(intervals[i].begin, at));
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (intervals[i].begin <= begin) end = larger(end, intervals[i].end);
    }
    end = smaller(end, limit);
    count += larger(end - begin, 0);
    at = larger(at, end);
  }
  return count;
}

/// From the mask's intervals. A column has a query tile where one of its intervals, those of all its queries together,
/// reaches into the column: by that, which is arithmetic on numbers that rise with the tile, turns are counted too.
template <class Config, class Mask>
class OrderedClosedForm {
 public:
  __device__ __forceinline__ OrderedClosedForm(const Position& at, const QueryLists&, int key_tile, int query_valid,
                                               int lane)
      : at_(at), key_tile_(key_tile), query_valid_(query_valid), lane_(lane) {
    set();
  }

  __device__ __forceinline__ TileCounts count() const { return {0, count_below(tiles_, kAllTiles)}; }

  /// Starts giving tiles, at the `first`-th from the last.
  __device__ __forceinline__ void start(const BackwardParams&, int first) {
    const int left = count_below(tiles_, kAllTiles) - first;
    const int end = divide_up(query_valid_, Config::kTileQ);
    limit_ = first == 0 ? end : first_that(0, end, lane_, [&](int tile) { return count_below(tiles_, tile) >= left; });
    base_ = -1;
  }

  /// The next query tile. There must be one left.
  __device__ __forceinline__ OrderedEntry next() {
    int tile = 0;
#pragma unroll
    for (int i = 0; i < Mask::kIntervals; ++i) {
      const int last = smaller(tiles_[i].end, limit_) - 1;
      if (tiles_[i].begin <= last) tile = larger(tile, last);
    }
    limit_ = tile;
    if (base_ < 0 || base_ - tile >= 32) {
      base_ = tile;
      classify(tile - lane_);
    }
    const int packed = ptx::broadcast(packed_, base_ - tile);
    return {tile, (packed & 1) != 0, packed >> 1};
  }

 private:
  static constexpr int kAllTiles = 0x7fffffff;
  using Bounds = RowIntervals<Mask, Mask::kKind != MaskKind::kPredicate>;

  __device__ __forceinline__ Bounds bounds_of(int tile) const {
    Bounds bounds;
    const int begin = tile * Config::kTileQ;
    bounds.set(at_, begin, smaller(begin + Config::kTileQ, query_valid_));
    return bounds;
  }

  /// The key tiles that keys reach into.
  __device__ __forceinline__ static Interval tiles_of(const Interval& keys) {
    return {keys.begin / Config::kTileK, divide_up(larger(keys.end, 0), Config::kTileK)};
  }

  template <int kIndex = 0>
  __device__ __forceinline__ void set() {
    const Interval queries = Mask::template queries<kIndex>(at_);
    const int begin = larger(queries.begin, 0), end = smaller(queries.end, query_valid_);
    tiles_[kIndex] = {0, 0};
    if (begin < end) {
      const int limit = divide_up(end, Config::kTileQ);
      const auto keys = [&](int tile) { return tiles_of(bounds_of(tile).hull[kIndex]); };
      const int first =
          first_that(begin / Config::kTileQ, limit, lane_, [&](int t) { return keys(t).end > key_tile_; });
      tiles_[kIndex] = {first, first_that(first, limit, lane_, [&](int t) { return keys(t).begin > key_tile_; })};
    }
    if constexpr (kIndex + 1 < Mask::kIntervals) set<kIndex + 1>();
  }

  __device__ __forceinline__ void classify(int tile) {
    packed_ = 0;
    if (tile < 0) return;
    const Bounds bounds = bounds_of(tile);
    Interval key_tiles[Mask::kIntervals];
#pragma unroll
    for (int i = 0; i < Mask::kIntervals; ++i) key_tiles[i] = tiles_of(bounds.hull[i]);
    const int key = key_tile_ * Config::kTileK;
    const bool partial = bounds.of(key, key + Config::kTileK) != Visibility::kFull;
    packed_ = 2 * count_below(key_tiles, key_tile_) + (partial ? 1 : 0);
  }

  const Position at_;
  Interval tiles_[Mask::kIntervals];  // of queries
  int key_tile_;
  int query_valid_;
  int lane_;
  int limit_ = 0;  // tiles from here on have been given
  int base_ = -1;  // lane l has tile base_ - l in packed_: turn, and whether it is partial
  int packed_ = 0;
};

/// From lists: those of tiles that need a mask and of others, both from the end, whichever has the later tile.
template <class Config, class Mask>
class OrderedLists {
 public:
  __device__ __forceinline__ OrderedLists(const Position& at, const QueryLists& lists, int key_tile, int, int lane)
      : entries_(lists.entries), lane_(lane) {
    const int column = first_row(lists.columns_per_batch, at.batch, at.key_token, Config::kTileK) +
                       at.head * lists.columns_per_head + key_tile;
    partial_.begin = lists.column_begin[column];
    full_.begin = partial_.begin + lists.partial_tiles[column];
    partial_.end = full_.begin;
    full_.end = lists.column_end[column];
  }

  __device__ __forceinline__ TileCounts count() const {
    return {partial_.end - partial_.begin, full_.end - full_.begin};
  }

  __device__ __forceinline__ void start(const BackwardParams& params, int first) {
    turns_ = params.entry_turns;
    const TileCounts counts = count();
    // The fewest of the partial ones so that the next of them comes after the last of the others that make up `first`.
    const int taken = first_that(larger(first - counts.full, 0), smaller(first, counts.partial), lane_, [&](int i) {
      return tile_at(partial_.end - 1 - i) < tile_at(full_.end - (first - i));
    });
    partial_.end -= taken;
    full_.end -= first - taken;
    partial_.loaded = full_.loaded = 0;
  }

  __device__ __forceinline__ OrderedEntry next() {
    const int partial = peek(partial_), full = peek(full_);
    if (tile_of(partial) > tile_of(full)) return {partial, true, take(partial_)};
    return {full, false, take(full_)};
  }

 private:
  /// Entries [begin, end); lane l holds the one before end - l of 32 loaded at once, `loaded` of which are left.
  struct Stretch {
    int begin;
    int end;
    int entry = 0;
    int turn = 0;
    int loaded = 0;
  };

  __device__ __forceinline__ int tile_at(int index) const { return entries_[index] & kNoBox; }
  /// -1 where there is no more.
  __device__ __forceinline__ static int tile_of(int entry) { return entry == kNone ? -1 : entry & kNoBox; }

  __device__ __forceinline__ int peek(Stretch& stretch) const {
    if (stretch.begin >= stretch.end) return kNone;
    if (stretch.loaded == 0) {
      const int index = stretch.end - 1 - lane_;
      stretch.entry = index >= stretch.begin ? entries_[index] : 0;
      stretch.turn = index >= stretch.begin ? turns_[index] : 0;
      stretch.loaded = 32;
    }
    return ptx::broadcast(stretch.entry, 32 - stretch.loaded);
  }

  /// The turn of what peek gave; goes on.
  __device__ __forceinline__ int take(Stretch& stretch) const {
    const int turn = ptx::broadcast(stretch.turn, 32 - stretch.loaded);
    --stretch.loaded;
    --stretch.end;
    return turn;
  }

  static constexpr int kNone = -1;  // no entry is: its tile would be a hole's

  const int* entries_;
  const int* turns_ = nullptr;
  int lane_;
  Stretch partial_;
  Stretch full_;
};

template <class Config, class Mask>
using OrderedQueries = typename Choose<Config::kKeySource == KeySourceKind::kLists, OrderedLists<Config, Mask>,
                                       OrderedClosedForm<Config, Mask>>::Type;

/// As walk_column, in the order of this file: calls visit(head, OrderedEntry).
template <class Config, class Queries, class Column, class Visit>
__device__ __forceinline__ void walk_column_in_order(const BackwardParams& params, const Column& column, int first,
                                                     int limit, int lane, Visit visit) {
  const int heads = params.heads_per_kv_head;
  for (int i = 0; i < heads && limit > 0; ++i) {
    const int head = column.kv_head * heads + i;
    const Position at = position_of(params.arguments, column, head);
    Queries queries(at, params.query_lists, column.key_begin / Config::kTileK, column.query_valid, lane);
    const TileCounts counts = queries.count();
    const int tiles = counts.partial + counts.full;
    const int end = smaller(limit, tiles);
    if (first < end) queries.start(params, first);
#pragma unroll 1
    for (int tile = first; tile < end; ++tile) visit(head, queries.next());
    first = larger(first - tiles, 0);
    limit -= tiles;
  }
}

}  // namespace harrier
