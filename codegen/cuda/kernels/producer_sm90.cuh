// The producer warp: takes rows in schedule order, walks their key tiles and starts the copies that bring Q, K and V.
#pragma once

#include "codegen/cuda/kernels/key_source.cuh"
#include "codegen/cuda/kernels/schedule.cuh"
#include "codegen/cuda/kernels/shared_layout.cuh"

namespace harrier {

template <class Config, class Mask>
class Producer {
 public:
  using Shared = SharedLayout<Config>;

  __device__ __forceinline__ Producer(const ForwardParams& params, const Shared& shared, int lane)
      : params_(params), shared_(shared), lane_(lane) {
    key_.parity = value_.parity = row_.parity = query_.parity = 1;  // every buffer starts empty
  }

  __device__ __forceinline__ void run() {
    drawn_ = static_cast<int>(blockIdx.x);
    work_count_ = work_count(params_);
    Next next = Next::kStart;
    while (true) {
      KeySource<Config, Mask> keys;
      int tiles = 0;
      if (next == Next::kReady) {
        tiles = begin_row(keys);
      } else if (next != Next::kStart) {
        load_owed_value();  // consumers finish what they have before they skip an empty row, or end
        RowWork row{};
        row.partial_tiles = -1;
        if (next == Next::kEmpty) row = describe_row<Config>(params_, item_);
        publish(row);
        if (next == Next::kNone) break;
      }
      // V trails K by one tile, across rows too: K of the next tile is wanted before V of this one. One loop, not one
      // before looking ahead and one after: what it does is compiled where it stands.
      const int look_ahead_tile = larger(smaller(kLookAheadTile, tiles), 1);
      for (int tile = 1;; ++tile) {
        if (tile == look_ahead_tile) next = look_ahead();
        if (tile >= tiles) break;
        load_tile(keys);
      }
      if (tiles > 0) {
        owed_ = true;
        owed_rows_ = rows_;
        owed_stage_ = key_.before();
      }
    }
    if (lane_ == 0) finish_schedule(params_);
  }

 private:
  /// What look_ahead found.
  enum class Next {
    kStart,  // nothing yet
    kNone,   // no more rows
    kEmpty,  // a row without keys, not published yet
    kReady,  // a row with keys, published
  };

  /// Where the keys of a row lie in the tensors.
  struct KeyRows {
    int kv_head;
    int loaded;       // keys of the sequence that may be brought
    int ragged_base;  // see kRaggedTokens
    int batch_coordinate;
  };

  /// Before this tile of a row, or after its last, the next row is looked up and its Q loaded: late enough for the Q of
  /// the row before to be free, early enough for the copy to arrive in time.
  static constexpr int kLookAheadTile = 6;

  /// Takes the next item into item_. A row with keys is published and its Q is on the way when this returns.
  __device__ __forceinline__ Next look_ahead() {
    const int index = ptx::broadcast(drawn_, 0);
    if (index >= work_count_) return Next::kNone;
    if (lane_ == 0) drawn_ = draw_next(params_);
    item_ = work_item(params_, index);
    RowWork row = describe_row<Config>(params_, item_);
    if (row.query_begin >= row.query_valid) return Next::kEmpty;
    const TileCounts counts = keys_of(row).count();
    const int limit = smaller(item_.tile_limit, counts.partial + counts.full);
    row.partial_tiles = larger(smaller(counts.partial, limit) - item_.first_tile, 0);
    row.full_tiles = larger(limit - item_.first_tile, 0) - row.partial_tiles;
    if (row.partial_tiles + row.full_tiles == 0) return Next::kEmpty;
    publish(row);
    if constexpr (Config::kQueryStages > 1) load_query(row);
    return Next::kReady;
  }

  template <class Row>
  __device__ __forceinline__ KeySource<Config, Mask> keys_of(const Row& row) const {
    const Position at = position_of(params_, row);
    const int query_end = smaller(row.query_begin + Config::kTileQ, row.query_valid);
    return KeySource<Config, Mask>(at, params_.lists, row.query_begin / Config::kTileQ, row.query_begin, query_end,
                                   lane_);
  }

  /// Makes the row that look_ahead has just published the current one and brings its first K. Returns its tiles.
  __device__ __forceinline__ int begin_row(KeySource<Config, Mask>& keys) {
    const volatile RowWork& row = *shared_.row(row_.before());
    const int loaded = attended_keys<Mask>(position_of(params_, row));
    rows_ = {row.head / params_.heads_per_kv_head, loaded,
             loaded + (params_.sequences.cu_key != nullptr ? row.key_token : 0), row.batch_coordinate};
    keys = keys_of(row);
    keys.start(item_.first_tile);
    load_key(rows_, keys);
    load_owed_value();
    if constexpr (Config::kQueryStages == 1) load_query(row);  // frees up only after V of the row before
    return row.partial_tiles + row.full_tiles;
  }

  __device__ __forceinline__ void load_tile(KeySource<Config, Mask>& keys) {
    const uint32 previous = key_.before();
    load_key(rows_, keys);
    load_value(rows_, previous);
  }

  /// V of the last tile of the row before.
  __device__ __forceinline__ void load_owed_value() {
    if (!owed_) return;
    owed_ = false;
    load_value(owed_rows_, owed_stage_);
  }

  /// Hands a row's description to the consumers.
  __device__ __forceinline__ void publish(const RowWork& row) {
    wait_together(shared_.row_empty(row_.stage), row_.parity);
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

  template <class Row>
  __device__ __forceinline__ void load_query(const Row& row) {
    using Panels = typename Shared::QueryPanels;
    const uint32 stage = query_.stage, barrier = shared_.query_full(stage);
    wait_together(shared_.query_empty(stage), query_.parity);
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
    wait_together(shared_.key_empty(stage), key_.parity);
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
    wait_together(shared_.value_empty(stage), value_.parity);
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
    const int token = first_key < static_cast<uint32>(rows.loaded) ? static_cast<int>(first_key) : rows.loaded - 1;
#pragma unroll
    for (int panel = 0; panel < Panels::kCount; ++panel) {
      ptx::load_box(tile + panel * Panels::kPanelBytes + box * Config::kBoxRows * Panels::kRowBytes, map, barrier,
                    panel * Panels::kPanelColumns, kRaggedTokens - rows.loaded + token, rows.kv_head, rows.ragged_base,
                    rows.batch_coordinate, ptx::L2Policy::kEvictLast);
    }
  }

  /// Lanes leave together: what lane 0 starts next may complete the phase after, and a lane that had not looked yet
  /// would wait for one more that never comes.
  __device__ __forceinline__ void wait_together(uint32 barrier, uint32 parity) const {
    ptx::barrier_wait(barrier, parity);
    ptx::warp_sync();
  }

  const ForwardParams& params_;
  const Shared& shared_;
  int lane_;
  StageCursor<Config::kStages> key_;
  StageCursor<Config::kStages> value_;
  StageCursor<Shared::kRowSlots> row_;
  StageCursor<Config::kQueryStages> query_;
  WorkItem item_{};
  KeyRows rows_{};  // of the current row
  int drawn_ = 0;   // lane 0: index of the item to take next
  int work_count_ = 0;
  bool owed_ = false;
  uint32 owed_stage_ = 0;
  KeyRows owed_rows_{};
};

}  // namespace harrier
