// The producer warp of a CTA that works on columns. It takes columns in schedule order, walks their query tiles and
// starts the copies that bring K, V, Q and dO.
#pragma once

#include "codegen/cuda/kernels/backward_layout_sm90.cuh"
#include "codegen/cuda/kernels/ordered_queries.cuh"
#include "codegen/cuda/kernels/schedule.cuh"

namespace harrier {

template <class Config, class Mask>
class ColumnProducer {
 public:
  using Shared = ColumnLayout<Config>;

  __device__ __forceinline__ ColumnProducer(const BackwardParams& params, const Shared& shared, int lane)
      : params_(params), shared_(shared), lane_(lane) {
    column_.parity = keys_.parity = tile_.parity = 1;  // every buffer starts empty
  }

  __device__ __forceinline__ void run() {
    int drawn = static_cast<int>(blockIdx.x);  // lane 0: index of the item to take next
    if constexpr (Config::kDeterministic) {
      if (lane_ == 0) drawn = draw(params_.columns.counter);
      drawn = ptx::broadcast(drawn, 0);
    }
    for (int index = drawn; index < *params_.columns.count; index = ptx::broadcast(drawn, 0)) {
      if (lane_ == 0) drawn = draw(params_.columns.counter);
      work_on(params_.columns.items[index]);
    }
    wait_together(shared_.column_empty(column_.stage), column_.parity);
    if (lane_ == 0) {
      shared_.column(column_.stage)->tiles = -1;
      ptx::barrier_arrive(shared_.column_full(column_.stage));
      finish_schedule(params_.columns.counter);
    }
  }

 private:
  using Queries =
      typename Choose<Config::kDeterministic, OrderedQueries<Config, Mask>, QuerySource<Config, Mask>>::Type;

  __device__ __forceinline__ static int draw(int* counter) {
    if constexpr (Config::kDeterministic) {
      return draw_in_turn(counter);
    } else {
      return draw_next(counter);
    }
  }

  __device__ __forceinline__ void work_on(const WorkItem& item) {
    // The column is read from shared memory even here: registers are few.
    volatile ColumnWork& column = *shared_.column(column_.stage);
    wait_together(shared_.column_empty(column_.stage), column_.parity);
    if (lane_ == 0) describe(column, item);
    ptx::warp_sync();
    const int tiles = column.query_valid > 0
                          ? count_column<Config, Mask, Queries>(params_.arguments, params_.query_lists, column,
                                                                params_.heads_per_kv_head, lane_)
                          : 0;
    const int limit = smaller(item.tile_limit, tiles);
    if (lane_ == 0) {
      column.tiles = larger(limit - item.first_tile, 0);
      ptx::barrier_arrive(shared_.column_full(column_.stage));
    }
    column_.advance();
    if (limit <= item.first_tile) return;
    load_keys(column);
    if constexpr (Config::kDeterministic) {
      walk_column_in_order<Config, Queries>(
          params_, column, item.first_tile, limit, lane_,
          [&](int head, const OrderedEntry& tile) { load_queries(column, head, tile.entry, tile.partial, tile.turn); });
    } else {
      walk_column<Config, Mask>(
          params_.arguments, params_.query_lists, column, params_.heads_per_kv_head, item.first_tile, limit, lane_,
          [&](int head, int entry, bool partial) { load_queries(column, head, entry, partial, 0); });
    }
  }

  __device__ __forceinline__ void describe(volatile ColumnWork& slot, const WorkItem& item) const {
    const ColumnWork column = describe_column<Config>(params_.sequences, params_.rows_per_batch, item);
    slot.key_begin = column.key_begin;
    slot.kv_head = column.kv_head;
    slot.batch = column.batch;
    slot.query_length = column.query_length;
    slot.key_length = column.key_length;
    slot.query_valid = column.query_valid;
    slot.key_valid = column.key_valid;
    slot.query_token = column.query_token;
    slot.key_token = column.key_token;
    slot.query_offset = column.query_offset;
    slot.key_offset = column.key_offset;
    slot.batch_coordinate = column.batch_coordinate;
    slot.first_place = column.first_place;
    slot.split_slot = column.split_slot;
  }

  /// Brings K and V of the column. Where padding is walked, a column may lie wholly past the keys that may be brought;
  /// it gets the last of these, since such a box would fault, and its mask shows nothing.
  __device__ __forceinline__ void load_keys(const volatile ColumnWork& column) {
    const uint32 barrier = shared_.keys_full();
    const int loaded = attended_keys<Mask>(position_of(params_.arguments, column, 0));
    wait_together(shared_.keys_empty(), keys_.parity);
    keys_.advance();
    if (lane_ != 0) return;
    const int first = smaller(column.key_begin, loaded - 1);
    ptx::barrier_expect(barrier, Shared::KeyPanels::kBytes + Shared::ValuePanels::kBytes);
    load_rows<typename Shared::KeyPanels>(shared_.key(), &params_.key, barrier, loaded, first, column.kv_head,
                                          column.key_offset, column.batch_coordinate, ptx::L2Policy::kEvictFirst);
    load_rows<typename Shared::ValuePanels>(shared_.value(), &params_.value, barrier, loaded, first, column.kv_head,
                                            column.key_offset, column.batch_coordinate, ptx::L2Policy::kEvictFirst);
  }

  /// Brings Q, dO and their statistics of one query tile.
  __device__ __forceinline__ void load_queries(const volatile ColumnWork& column, int head, int entry, bool partial,
                                               int turn) {
    const int tile = entry & kNoBox;
    const int place = head * params_.tile_places + column.first_place + tile;
    const int first = smaller(tile * Config::kTileQ, column.query_valid - 1);  // as in load_keys
    const int64 statistics = static_cast<int64>(place) * Config::kTileQ;
    const uint32 stage = tile_.stage;
    wait_together(shared_.query_empty(stage), tile_.parity);
    if (lane_ == 0) {
      volatile typename Shared::Tile* slot = shared_.tile(stage);
      slot->entry = entry;
      slot->head = head;
      slot->partial = partial ? 1 : 0;
      slot->place = place;
      if constexpr (Config::kDeterministic) slot->turn = turn;
      // The arrival that announces the bytes also publishes the tile, so it is written before.
      const uint32 barrier = shared_.query_full(stage);
      ptx::barrier_expect(barrier, Shared::QueryPanels::kBytes + Shared::kStatisticBytes);
      load_rows<typename Shared::QueryPanels>(shared_.query(stage), &params_.query, barrier, column.query_valid, first,
                                              head, column.query_offset, column.batch_coordinate,
                                              ptx::L2Policy::kEvictLast);
      ptx::load_bytes(shared_.log2_lse(stage), params_.log2_lse + statistics, Shared::kStatisticBytes, barrier);
    }
    wait_together(shared_.d_output_empty(stage), tile_.parity);
    if (lane_ == 0) {
      const uint32 barrier = shared_.d_output_full(stage);
      ptx::barrier_expect(barrier, Shared::OutputPanels::kBytes + Shared::kStatisticBytes);
      load_rows<typename Shared::OutputPanels>(shared_.d_output(stage), &params_.d_output, barrier, column.query_valid,
                                               first, head, column.query_offset, column.batch_coordinate,
                                               ptx::L2Policy::kEvictLast);
      ptx::load_bytes(shared_.delta(stage), params_.delta + statistics, Shared::kStatisticBytes, barrier);
    }
    tile_.advance();
  }

  /// Tokens from `first` on of a sequence that has `length` of them, the first at `offset` in the tensor; zeros after.
  template <class Panels>
  __device__ __forceinline__ void load_rows(uint32 tile, const TensorMap* map, uint32 barrier, int length, int first,
                                            int head, int offset, int batch_coordinate, ptx::L2Policy policy) {
#pragma unroll
    for (int panel = 0; panel < Panels::kCount; ++panel) {
      ptx::load_box(tile + panel * Panels::kPanelBytes, map, barrier, panel * Panels::kPanelColumns,
                    kRaggedTokens - length + first, head, offset + length, batch_coordinate, policy);
    }
  }

  /// Lanes leave together: see Producer.
  __device__ __forceinline__ void wait_together(uint32 barrier, uint32 parity) const {
    ptx::barrier_wait(barrier, parity);
    ptx::warp_sync();
  }

  const BackwardParams& params_;
  const Shared& shared_;
  int lane_;
  StageCursor<Shared::kColumnSlots> column_;
  StageCursor<1> keys_;
  StageCursor<Config::kStages> tile_;
};

}  // namespace harrier
