// Takes rows in schedule order, walks their key tiles and starts the copies that bring Q, K and V, one tile ahead of
// the products and across the ends of rows.
//
// Every warp walks the row by itself: that is a few instructions a tile, and handing boxes from one warp to the others
// would cost a barrier more and another tile of look-ahead.
#pragma once

#include "codegen/cuda/kernels/copy_tile_sm80.cuh"
#include "codegen/cuda/kernels/key_source.cuh"
#include "codegen/cuda/kernels/row_results.cuh"
#include "codegen/cuda/kernels/schedule.cuh"
#include "codegen/cuda/kernels/shared_layout_sm80.cuh"

namespace harrier {

/// This thread's place in block `block` of its warp's 16-row blocks.
template <class Config>
__device__ __forceinline__ ConsumerThread consumer_thread(int block) {
  const int warp = ptx::broadcast(static_cast<int>(threadIdx.x) / 32, 0);
  const int place = warp * (Config::kWarpRows / 16) + block;
  return {place / 4, place % 4, static_cast<int>(threadIdx.x) & 31};
}

template <class Config, class Mask>
class LoaderSm80 {
 public:
  using Shared = SharedLayoutSm80<Config>;
  static constexpr int kThreads = forward_threads_sm80<Config>();
  static constexpr int kBoxes = Shared::kBoxes;
  /// Then Q's buffer is free as soon as a row has begun, and Q of the next row comes with its first keys.
  static constexpr bool kQueryInRegisters = Config::kHeadDim * Config::kWarpRows <= 128 * 16;

  __device__ __forceinline__ LoaderSm80(const ForwardParams& params, const Shared& shared)
      : params_(params), shared_(shared), work_count_(work_count(params)) {}

  // Of the row that was begun last.
  __device__ __forceinline__ uint32 row_slot() const { return row_slot_; }
  __device__ __forceinline__ int tiles() const { return tiles_; }
  __device__ __forceinline__ int partial_tiles() const { return partial_tiles_; }

  /// Takes items until one has keys, writes the results of those that have none, and starts the copies of the row's
  /// first tile and of its Q (load_query does, where that is not in registers). False when no row is left.
  __device__ __forceinline__ bool begin_row(uint32 stage) {
    while (true) {
      const int index = first_ ? static_cast<int>(blockIdx.x) : *shared_.item(item_slot_);
      if (index >= work_count_) return false;
      first_ = false;
      item_slot_ ^= 1;
      if (threadIdx.x == 0) drawn_ = draw_next(params_);
      const WorkItem item = work_item(params_, index);
      RowWork row = describe_row<Config>(params_, item);
      if (find_tiles(item, row)) {
        row_slot_ ^= 1;
        if (threadIdx.x == 0) publish_row(row);
        const int key_token = params_.sequences.cu_key != nullptr ? row.key_token : 0;
        const int kv_head = row.head / params_.heads_per_kv_head;
        key_ = source_rows(params_.key_rows, row.batch_coordinate, kv_head, key_token);
        value_ = source_rows(params_.value_rows, row.batch_coordinate, kv_head, key_token);
        key_limit_ = attended_keys<Mask>(position_of(params_, row));
        keys_.start(item.first_tile);
        if constexpr (kQueryInRegisters) copy_query(row);
        load_tile(stage);
        return true;
      }
#pragma unroll
      for (int block = 0; block < Config::kWarpRows / 16; ++block) {
        store_empty<Config>(params_, row, consumer_thread<Config>(block));
      }
      publish_item();
      __syncthreads();
    }
  }

  /// Shows everybody, after the next barrier of the CTA, which item comes next. Late, as the draw takes its time.
  __device__ __forceinline__ void publish_item() {
    if (threadIdx.x == 0) *shared_.item(item_slot_) = drawn_;
  }

  /// Starts the copies of the row's next tile.
  __device__ __forceinline__ void load_tile(uint32 stage) {
    uint32 first_keys[kBoxes];
#pragma unroll
    for (int box = 0; box < kBoxes; ++box) {
      const int entry = keys_.next();
      if (threadIdx.x == 0) shared_.boxes(stage)[box] = entry;
      first_keys[box] = static_cast<uint32>(entry & kNoBox) * Config::kBoxRows;
    }
    copy_keys<typename Shared::KeyTile>(shared_.key(stage), key_, first_keys);
    copy_keys<typename Shared::ValueTile>(shared_.value(stage), value_, first_keys);
    ptx::commit_copies();
  }

  /// Starts the copy of the row's Q. Its description must be visible and its buffer free.
  __device__ __forceinline__ void load_query() {
    copy_query(*shared_.row(row_slot_));
    ptx::commit_copies();
  }

 private:
  /// How many key tiles of the row the item covers; sets out on them. False when there are none.
  __device__ __forceinline__ bool find_tiles(const WorkItem& item, RowWork& row) {
    if (row.query_begin >= row.query_valid) return false;
    const int query_end = smaller(row.query_begin + Config::kTileQ, row.query_valid);
    keys_ = KeySource<Config, Mask>(position_of(params_, row), params_.lists, item.tile, row.query_begin, query_end,
                                    static_cast<int>(threadIdx.x) & 31);
    const TileCounts counts = keys_.count();
    const int limit = smaller(item.tile_limit, counts.partial + counts.full);
    row.partial_tiles = partial_tiles_ = larger(smaller(counts.partial, limit) - item.first_tile, 0);
    tiles_ = larger(limit - item.first_tile, 0);
    row.full_tiles = tiles_ - partial_tiles_;
    return tiles_ > 0;
  }

  __device__ __forceinline__ void publish_row(const RowWork& row) const {
    volatile RowWork* slot = shared_.row(row_slot_);
    slot->partial_tiles = row.partial_tiles;
    slot->full_tiles = row.full_tiles;
    slot->query_begin = row.query_begin;
    slot->head = row.head;
    slot->batch = row.batch;
    slot->query_length = row.query_length;
    slot->key_length = row.key_length;
    slot->query_valid = row.query_valid;
    slot->key_valid = row.key_valid;
    slot->query_token = row.query_token;
    slot->key_token = row.key_token;
    slot->query_offset = row.query_offset;
    slot->batch_coordinate = row.batch_coordinate;
    slot->split_slot = row.split_slot;
  }

  template <class Row>
  __device__ __forceinline__ void copy_query(const Row& row) const {
    const int query_begin = row.query_begin, queries = row.query_valid - query_begin;
    copy_tile<typename Shared::QueryTile, kThreads>(
        shared_.query(),
        source_rows(params_.query_rows, row.batch_coordinate, row.head, row.query_offset + query_begin),
        [&](int tile_row, int) { return tile_row < queries ? tile_row : -1; });
  }

  template <class Tile>
  __device__ __forceinline__ void copy_keys(uint32 tile, const SourceRows& source,
                                            const uint32 (&first_keys)[kBoxes]) const {
    constexpr int kRowStep = kThreads / Tile::kGroupChunks;
    copy_tile<Tile, kThreads>(tile, source, [&](int tile_row, int i) {
      // Constants where all threads are in the same box, as they usually are.
      const int box = Config::kBoxRows % kRowStep == 0 ? i * kRowStep / Config::kBoxRows : tile_row / Config::kBoxRows;
      uint32 first_key = first_keys[0];
#pragma unroll
      for (int other = 1; other < kBoxes; ++other) first_key = box == other ? first_keys[other] : first_key;
      const uint32 key = first_key + static_cast<uint32>(tile_row - box * Config::kBoxRows);
      return key < static_cast<uint32>(key_limit_) ? static_cast<int>(key) : -1;
    });
  }

  const ForwardParams& params_;
  const Shared& shared_;
  const int work_count_;
  KeySource<Config, Mask> keys_;
  SourceRows key_{};
  SourceRows value_{};
  int key_limit_ = 0;
  int tiles_ = 0;
  int partial_tiles_ = 0;
  int drawn_ = 0;  // thread 0: index of the item after the one that was taken last
  bool first_ = true;
  uint32 row_slot_ = 0;
  uint32 item_slot_ = 0;
};

}  // namespace harrier
