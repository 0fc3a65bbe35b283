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
    key_.parity = value_.parity = row_.parity = query_.parity = 1;  // every buffer starts empty
  }

  __device__ __forceinline__ void run() {
    int index = static_cast<int>(blockIdx.x);
    while (index < params_.work_count) {
      int next_index = lane_ == 0 ? draw_next(params_) : 0;
      produce(work_item(params_, index));
      index = ptx::broadcast(next_index, 0);
    }
    load_owed_value();
    RowWork end{};
    end.partial_tiles = -1;
    publish(end);
    if (lane_ == 0) finish_schedule(params_);
  }

 private:
  /// Where the keys of a row lie in the tensors.
  struct KeyRows {
    int kv_head;
    int valid;        // keys of the sequence
    int ragged_base;  // see kRaggedTokens
    int batch_coordinate;
  };

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
    const int tiles = row.partial_tiles + row.full_tiles;
    // Consumers finish what they have before they skip an empty row.
    if (tiles == 0) load_owed_value();
    publish(row);
    if (tiles == 0) return;

    // V trails K by one tile, across rows too: K of the next tile is wanted before V of this one.
    const KeyRows rows{row.head / params_.heads_per_kv_head, row.key_valid,
                       row.key_valid + (params_.sequences.cu_key != nullptr ? row.key_token : 0), row.batch_coordinate};
    keys.start(first);
    load_key(rows, keys);
    load_owed_value();
    load_query(row);
    for (int tile = 1; tile < tiles; ++tile) {
      const uint32 previous = key_stage_before();
      load_key(rows, keys);
      load_value(rows, previous);
    }
    owed_ = true;
    owed_rows_ = rows;
    owed_stage_ = key_stage_before();
  }

  /// V of the last tile of the row before.
  __device__ __forceinline__ void load_owed_value() {
    if (!owed_) return;
    owed_ = false;
    load_value(owed_rows_, owed_stage_);
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
    using Panels = typename Shared::QueryPanels;
    const uint32 stage = query_.stage, barrier = shared_.query_full(stage);
    ptx::barrier_wait(shared_.query_empty(stage), query_.parity);
    query_.advance();
    if (lane_ != 0) return;
    ptx::barrier_expect(barrier, Panels::kBytes);
#pragma unroll
    for (int panel = 0; panel < Panels::kCount; ++panel) {
      ptx::load_box(shared_.query(stage) + panel * Panels::kPanelBytes, &params_.query, barrier,
                    panel * Panels::kPanelColumns, kRaggedTokens - row.query_valid + row.query_begin, row.head,
                    row.query_offset + row.query_valid, row.batch_coordinate, ptx::L2Policy::kEvictFirst);
    }
  }

  /// Brings the next key tile, box by box.
  __device__ __forceinline__ void load_key(const KeyRows& rows, KeySource<Config, Mask>& keys) {
    using Panels = typename Shared::KeyPanels;
    const uint32 stage = key_.stage, barrier = shared_.key_full(stage);
    ptx::barrier_wait(shared_.key_empty(stage), key_.parity);
    int entries[Shared::kBoxes];
#pragma unroll
    for (int box = 0; box < Shared::kBoxes; ++box) entries[box] = keys.next();
    if (lane_ == 0) {
      // The arrival that announces the bytes also publishes the boxes, so they are written before.
#pragma unroll
      for (int box = 0; box < Shared::kBoxes; ++box) shared_.boxes(stage)[box] = entries[box];
      ptx::barrier_expect(barrier, Panels::kBytes);
#pragma unroll
      for (int box = 0; box < Shared::kBoxes; ++box) {
        load_box_rows<Panels>(shared_.key(stage), &params_.key, barrier, rows, box, entries[box]);
      }
    }
    key_.advance();
  }

  /// Brings V of the tile whose K is in `key_stage`. Its boxes are still there: they are overwritten only by this warp.
  __device__ __forceinline__ void load_value(const KeyRows& rows, uint32 key_stage) {
    using Panels = typename Shared::ValuePanels;
    const uint32 stage = value_.stage, barrier = shared_.value_full(stage);
    ptx::barrier_wait(shared_.value_empty(stage), value_.parity);
    if (lane_ == 0) {
      ptx::barrier_expect(barrier, Panels::kBytes);
#pragma unroll
      for (int box = 0; box < Shared::kBoxes; ++box) {
        load_box_rows<Panels>(shared_.value(stage), &params_.value, barrier, rows, box, shared_.boxes(key_stage)[box]);
      }
    }
    value_.advance();
  }

  template <class Panels>
  __device__ __forceinline__ void load_box_rows(uint32 tile, const TensorMap* map, uint32 barrier, const KeyRows& rows,
                                                int box, int entry) {
    // A hole brings the last key and zeros after it: a box that is wholly out of bounds in a ragged map would fault.
    const uint32 first_key = static_cast<uint32>(entry & kNoBox) * Config::kBoxRows;
    const int token = first_key < static_cast<uint32>(rows.valid) ? static_cast<int>(first_key) : rows.valid - 1;
#pragma unroll
    for (int panel = 0; panel < Panels::kCount; ++panel) {
      ptx::load_box(tile + panel * Panels::kPanelBytes + box * Config::kBoxRows * Panels::kRowBytes, map, barrier,
                    panel * Panels::kPanelColumns, kRaggedTokens - rows.valid + token, rows.kv_head, rows.ragged_base,
                    rows.batch_coordinate, ptx::L2Policy::kEvictLast);
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
  StageCursor<Config::kQueryStages> query_;
  bool owed_ = false;
  uint32 owed_stage_ = 0;
  KeyRows owed_rows_{};
};

}  // namespace harrier
