// The producer warp: takes rows in schedule order, walks their key tiles and starts the copies that bring Q, K and V.
#pragma once

#include "codegen/cuda/kernels/key_source.cuh"
#include "codegen/cuda/kernels/schedule.cuh"
#include "codegen/cuda/kernels/shared_layout.cuh"

namespace harrier {

/// The row that `item` names: where its sequence lies and which of its queries it covers. Counts of tiles are not set.
template <class Config>
__device__ __forceinline__ RowWork describe_row(const ForwardParams& params, const WorkItem& item) {
  const SequenceTable& sequences = params.sequences;
  RowWork row;
  row.head = item.head;
  row.batch = item.batch;
  row.query_begin = item.query_tile * Config::kTileQ;
  row.split_slot = item.split_slot;
  if (sequences.cu_query != nullptr) {
    row.query_token = sequences.cu_query[item.batch];
    row.key_token = sequences.cu_key[item.batch];
    row.query_length = sequences.cu_query[item.batch + 1] - row.query_token;
    row.key_length = sequences.cu_key[item.batch + 1] - row.key_token;
    row.query_offset = row.query_token;
    row.batch_coordinate = 0;
  } else {
    row.query_length = sequences.query_length;
    row.key_length = sequences.key_length;
    row.query_token = item.batch * row.query_length;
    row.key_token = item.batch * row.key_length;
    row.query_offset = 0;
    row.batch_coordinate = item.batch;
  }
  row.query_valid = sequences.query_valid != nullptr ? sequences.query_valid[item.batch] : row.query_length;
  row.key_valid = sequences.key_valid != nullptr ? sequences.key_valid[item.batch] : row.key_length;
  return row;
}

template <class Config, class Mask>
class Producer {
 public:
  using Shared = SharedLayout<Config>;

  __device__ __forceinline__ Producer(const ForwardParams& params, const Shared& shared, int lane)
      : params_(params), shared_(shared), lane_(lane) {
    key_.parity = value_.parity = row_.parity = 1;  // every buffer starts empty
  }

  __device__ __forceinline__ void run() {
    int index = static_cast<int>(blockIdx.x);
    while (index < params_.work_count) {
      int next_index = lane_ == 0 ? draw_next(params_) : 0;
      produce(work_item(params_, index));
      index = ptx::broadcast(next_index, 0);
    }
    RowWork end{};
    end.partial_tiles = -1;
    publish(end);
    if (lane_ == 0) finish_schedule(params_);
  }

 private:
  __device__ __forceinline__ void produce(const WorkItem& item) {
    RowWork row = describe_row<Config>(params_, item);
    const Position at{params_.arguments, row.batch,       row.head,      row.query_length,
                      row.key_length,    row.query_token, row.key_token, row.key_valid};
    const int query_end = smaller(row.query_begin + Config::kTileQ, row.query_valid);
    KeySource<Config, Mask> keys(at, params_.lists, item.query_tile, row.query_begin, query_end, lane_);
    const TileCounts counts = row.query_begin < row.query_valid ? keys.count() : TileCounts{0, 0};
    const int first = item.first_tile;
    const int limit = smaller(item.tile_limit, counts.partial + counts.full);
    row.partial_tiles = larger(smaller(counts.partial, limit) - first, 0);
    row.full_tiles = larger(limit - first, 0) - row.partial_tiles;
    publish(row);
    const int tiles = row.partial_tiles + row.full_tiles;
    if (tiles == 0) return;

    // V trails K by one tile: K of the next tile is wanted before V of this one.
    const int kv_head = row.head / params_.heads_per_kv_head;
    keys.start(first);
    load_key(row, kv_head, keys);
    load_query(row);
    for (int tile = 1; tile < tiles; ++tile) {
      const uint32 previous = key_stage_before();
      load_key(row, kv_head, keys);
      load_value(row, kv_head, previous);
    }
    load_value(row, kv_head, key_stage_before());
  }

  /// Hands a row's description to the consumers.
  __device__ __forceinline__ void publish(const RowWork& row) {
    ptx::barrier_wait(shared_.row_empty(row_.stage), row_.parity);
    if (lane_ == 0) {
      volatile RowWork* slot = shared_.row(row_.stage);
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
      ptx::barrier_arrive(shared_.row_full(row_.stage));
    }
    ptx::warp_sync();
    row_.advance();
  }

  __device__ __forceinline__ void load_query(const RowWork& row) {
    ptx::barrier_wait(shared_.query_empty(), query_parity_);
    query_parity_ ^= 1;
    if (lane_ != 0) return;
    using Panels = typename Shared::QueryPanels;
    ptx::barrier_expect(shared_.query_full(), Panels::kBytes);
#pragma unroll
    for (int panel = 0; panel < Panels::kCount; ++panel) {
      ptx::load_box(shared_.query() + panel * Panels::kPanelBytes, &params_.query, shared_.query_full(),
                    panel * Panels::kPanelColumns, kRaggedTokens - row.query_valid + row.query_begin, row.head,
                    row.query_offset + row.query_valid, row.batch_coordinate, ptx::L2Policy::kEvictFirst);
    }
  }

  /// Brings the next key tile, box by box.
  __device__ __forceinline__ void load_key(const RowWork& row, int kv_head, KeySource<Config, Mask>& keys) {
    using Panels = typename Shared::KeyPanels;
    const uint32 stage = key_.stage, barrier = shared_.key_full(stage);
    ptx::barrier_wait(shared_.key_empty(stage), key_.parity);
    // The arrival that announces the bytes also publishes the boxes, so it comes after the last of them is written.
#pragma unroll
    for (int box = 0; box < Shared::kBoxes; ++box) {
      const int entry = keys.next();
      if (lane_ == 0) {
        shared_.boxes(stage)[box] = entry;
        if (box == Shared::kBoxes - 1) ptx::barrier_expect(barrier, Panels::kBytes);
        load_box_rows<Panels>(shared_.key(stage), &params_.key, barrier, row, kv_head, box, entry);
      }
    }
    key_.advance();
  }

  /// Brings V of the tile whose K is in `key_stage`. Its boxes are still there: they are overwritten only by this warp.
  __device__ __forceinline__ void load_value(const RowWork& row, int kv_head, uint32 key_stage) {
    using Panels = typename Shared::ValuePanels;
    const uint32 stage = value_.stage, barrier = shared_.value_full(stage);
    ptx::barrier_wait(shared_.value_empty(stage), value_.parity);
    if (lane_ == 0) {
      ptx::barrier_expect(barrier, Panels::kBytes);
#pragma unroll
      for (int box = 0; box < Shared::kBoxes; ++box) {
        load_box_rows<Panels>(shared_.value(stage), &params_.value, barrier, row, kv_head, box,
                              shared_.boxes(key_stage)[box]);
      }
    }
    value_.advance();
  }

  template <class Panels>
  __device__ __forceinline__ void load_box_rows(uint32 tile, const TensorMap* map, uint32 barrier, const RowWork& row,
                                                int kv_head, int box, int entry) {
    // A hole lies past every key: out of bounds, hence zeros.
    const uint32 first_key = static_cast<uint32>(entry & kNoBox) * Config::kBoxRows;
    const int token = first_key < static_cast<uint32>(row.key_valid) ? static_cast<int>(first_key) : row.key_valid;
    const int key_offset = params_.sequences.cu_key != nullptr ? row.key_token : 0;
#pragma unroll
    for (int panel = 0; panel < Panels::kCount; ++panel) {
      ptx::load_box(tile + panel * Panels::kPanelBytes + box * Config::kBoxRows * Panels::kRowBytes, map, barrier,
                    panel * Panels::kPanelColumns, kRaggedTokens - row.key_valid + token, kv_head,
                    key_offset + row.key_valid, row.batch_coordinate, ptx::L2Policy::kEvictLast);
    }
  }

  __device__ __forceinline__ uint32 key_stage_before() const {
    return key_.stage == 0 ? Config::kStages - 1 : key_.stage - 1;
  }

  const ForwardParams& params_;
  const Shared& shared_;
  int lane_;
  StageCursor<Config::kStages> key_;
  StageCursor<Config::kStages> value_;
  StageCursor<Shared::kRowSlots> row_;
  uint32 query_parity_ = 1;
};

}  // namespace harrier
