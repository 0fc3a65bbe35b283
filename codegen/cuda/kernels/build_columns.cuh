// Columns of a backward launch on the device: their lists of query tiles, made from the rows' lists of key tiles, and
// how many query tiles each has, for the order of work.
#pragma once

#include "codegen/cuda/kernels/build_order.cuh"
#include "codegen/cuda/kernels/ordered_queries.cuh"

namespace harrier {

/// What row_at takes for columns: places of key tiles.
template <class Config>
struct ColumnPlaces {
  static constexpr int kTileQ = Config::kTileK;
};

/// Queries and keys exchanged.
__device__ __forceinline__ SequenceTable exchanged(const SequenceTable& sequences) {
  return {sequences.cu_key,      sequences.cu_query,   sequences.key_valid,
          sequences.query_valid, sequences.key_length, sequences.query_length};
}

/// The first of the rising boxes [begin, end) of a list that is not below `limit`; `end` where all are.
__device__ __forceinline__ int first_box_from(const int* entries, int begin, int end, int limit) {
  int first = begin, last = end;
  while (first < last) {
    const int middle = (first + last) / 2;
    const bool before = (entries[middle] & kNoBox) < limit;
    first = before ? middle + 1 : first;
    last = before ? last : middle;
  }
  return first;
}

/// Where `wanted` lies among rising boxes [begin, end) of a list; `end` where it does not.
__device__ __forceinline__ int find_box(const int* entries, int begin, int end, int wanted) {
  const int first = first_box_from(entries, begin, end, wanted);
  return first < end && (entries[first] & kNoBox) == wanted ? first : end;
}

/// One warp for each column: it looks for its key tile in the list of every row of the sequence. A grid of (columns /
/// kBuildWarps rounded up, heads with lists of their own) CTAs of kBuildThreads. For deterministic kernels it also says
/// how many columns come before this one in each row's list.
template <class Config, bool kDeterministic>
class ListTransposer {
 public:
  __device__ __forceinline__ explicit ListTransposer(const TransposeParams& params)
      : params_(params), lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ __forceinline__ void run() {
    const int place = static_cast<int>(blockIdx.x) * kBuildWarps + static_cast<int>(threadIdx.x) / 32;
    if (place >= params_.columns) return;
    const int head = static_cast<int>(blockIdx.y);
    const RowPlace where =
        row_at<ColumnPlaces<Config>>(exchanged(params_.sequences), params_.columns_per_batch, params_.batches, place);
    const RowWork row = describe_row<Config>(params_.sequences, {0, head, where.batch, 0, 0, -1});
    key_tile_ = where.tile;
    first_list_ = first_row(params_.rows.rows_per_batch, where.batch, row.query_token, Config::kTileQ) +
                  head * params_.rows.rows_per_head;
    query_tiles_ = key_tile_ * Config::kTileK < row.key_length ? divide_up(row.query_valid, Config::kTileQ) : 0;
    const Found found = count();
    const int column = place + head * params_.columns_per_head;
    const int begin = take_room(column, found);
    if (begin >= 0) write(begin, begin + found.partial);
  }

 private:
  struct Found {
    int partial;
    int full;
  };

  /// The entry of a query tile's list for this key tile; kNoBox where it has none.
  __device__ __forceinline__ int look_up(int query_tile, bool& partial) const {
    partial = false;
    if (query_tile >= query_tiles_) return kNoBox;
    const int list = first_list_ + query_tile;
    const int begin = params_.rows.row_begin[list], end = params_.rows.row_end[list];
    const int middle = begin + params_.rows.partial_tiles[list];
    int place = find_box(params_.rows.entries, begin, middle, key_tile_);
    partial = place < middle;
    if (!partial) place = find_box(params_.rows.entries, middle, end, key_tile_);
    return place < end ? params_.rows.entries[place] : kNoBox;
  }

  /// How many key tiles before this one the query tile's list has.
  __device__ __forceinline__ int turn_in(int query_tile) const {
    const int list = first_list_ + query_tile;
    const int begin = params_.rows.row_begin[list], end = params_.rows.row_end[list];
    const int middle = begin + params_.rows.partial_tiles[list];
    return first_box_from(params_.rows.entries, begin, middle, key_tile_) - begin +
           first_box_from(params_.rows.entries, middle, end, key_tile_) - middle;
  }

  __device__ __forceinline__ Found count() const {
    Found found{0, 0};
    for (int first = 0; first < query_tiles_; first += 32) {
      bool partial;
      const bool seen = look_up(first + lane_, partial) != kNoBox;
      found.partial += __popc(__ballot_sync(0xffffffffu, seen && partial));
      found.full += __popc(__ballot_sync(0xffffffffu, seen && !partial));
    }
    return found;
  }

  /// The place of the column's list; negative where there is no room.
  __device__ __forceinline__ int take_room(int column, const Found& found) const {
    int begin = 0;
    if (lane_ == 0) {
      const int size = found.partial + found.full;
      begin = atomicAdd(&params_.state->entries, size);
      const bool fits = begin >= 0 && size <= params_.entry_capacity - begin;
      if (!fits) {
        params_.state->overflow = 1;
        begin = -1;
      }
      params_.column_begin[column] = larger(begin, 0);
      params_.column_end[column] = fits ? begin + size : 0;
      params_.partial_tiles[column] = fits ? found.partial : 0;
    }
    return ptx::broadcast(begin, 0);
  }

  __device__ __forceinline__ void write(int next_partial, int next_full) const {
    const uint32 before = (1u << lane_) - 1;
    for (int first = 0; first < query_tiles_; first += 32) {
      bool is_partial;
      const int query_tile = first + lane_, box = look_up(query_tile, is_partial);
      const uint32 partial = __ballot_sync(0xffffffffu, box != kNoBox && is_partial);
      const uint32 full = __ballot_sync(0xffffffffu, box != kNoBox && !is_partial);
      if (box != kNoBox) {
        const int place = is_partial ? next_partial + __popc(partial & before) : next_full + __popc(full & before);
        params_.entries[place] = query_tile | (box & ~kNoBox);
        if constexpr (kDeterministic) params_.entry_turns[place] = turn_in(query_tile);
      }
      next_partial += __popc(partial);
      next_full += __popc(full);
    }
  }

  const TransposeParams& params_;
  int lane_;
  int key_tile_ = 0;
  int first_list_ = 0;
  int query_tiles_ = 0;
};

/// One warp for each column; a grid of (places of columns / kBuildWarps rounded up, measured_heads) CTAs of
/// kBuildThreads. `Queries` is where the kernel's query tiles come from.
template <class Config, class Mask, class Queries>
__device__ __forceinline__ void measure_columns(const ColumnOrderParams& params) {
  const OrderParams& order = params.order;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int place = static_cast<int>(blockIdx.x) * kBuildWarps + static_cast<int>(threadIdx.x) / 32;
  const int head = static_cast<int>(blockIdx.y);
  if (place >= order.rows_per_head) return;
  const RowPlace where = row_at<ColumnPlaces<Config>>(order.sequences, order.rows_per_batch, order.batches, place);
  const ColumnWork column =
      describe_column<Config>(params.sequences, params.rows_per_batch, {where.tile, head, where.batch, 0, 0, -1});
  int tiles = column.key_begin < column.key_length ? 0 : -1;
  if (tiles == 0 && column.query_valid > 0) {
    tiles = count_column<Config, Mask, Queries>(order.arguments, params.lists, column, params.heads_per_kv_head, lane);
  }
  if (lane != 0) return;
  order.rows[head * order.rows_per_head + place].tiles = tiles;
  if (tiles > 0) atomicAdd(&order.state->tiles, static_cast<uint64>(tiles));
}

/// As cut_rows, for deterministic kernels: no column of a sequence may come before one of a lower key tile, so a column
/// counts as long as the longest from it to the sequence's last.
template <class Config>
__device__ __forceinline__ void cut_columns(const OrderParams& params) {
  cut_rows(params, [&](int, int, int head, int place, int most) {
    const RowPlace at = row_at<ColumnPlaces<Config>>(params.sequences, params.rows_per_batch, params.batches, place);
    const RowWork column = describe_row<ColumnPlaces<Config>>(params.sequences, {0, head, at.batch, 0, 0, -1});
    const int end = smaller(place - at.tile + divide_up(column.query_length, Config::kTileK), params.rows_per_head);
    const RowMeasure* columns = params.rows + head * params.rows_per_head;
    int longest = 0;
    for (int i = place; i < end && longest < most; ++i) longest = larger(longest, columns[i].tiles);
    return smaller(longest, most);
  });
}

}  // namespace harrier
