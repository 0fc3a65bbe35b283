// Builds the order of work on the device, in three steps: measure_rows counts each row's key tiles, cut_rows decides
// which rows are split, order_rows finds each row's place among all and writes its items there.
//
// A row's place is the number of items of the rows before it, and it is found by asking every other row of its section
// whether it comes before: no sorting passes, no scans across CTAs, and the same order every time.
#pragma once

#include "codegen/cuda/kernels/build_rows.cuh"
#include "codegen/cuda/kernels/key_source.cuh"

namespace harrier {

__device__ __forceinline__ int order_sections(const OrderParams& params) {
  return divide_up(params.rows_per_head, kSectionRows);
}

/// Groups of heads whose rows are sorted apart. Heads that see the same keys share one.
__device__ __forceinline__ int measured_groups(const OrderParams& params) {
  return params.measured_heads == 1 ? 1 : divide_up(params.heads, params.heads_per_group);
}

/// One warp for each row; a grid of (rows_per_head / kBuildWarps rounded up, measured_heads) CTAs of kBuildThreads.
template <class Config, class Mask>
__device__ __forceinline__ void measure_rows(const OrderParams& params) {
  const int lane = threadIdx.x % 32;
  const int place = blockIdx.x * kBuildWarps + threadIdx.x / 32;
  const int head = blockIdx.y;
  if (place >= params.rows_per_head) return;
  const RowPlace where = row_at<Config>(params.sequences, params.rows_per_batch, params.batches, place);
  const RowWork row = describe_row<Config>(params.sequences, {where.tile, head, where.batch, 0, 0, -1});
  int tiles = row.query_begin < row.query_length ? 0 : -1;
  if (row.query_begin < row.query_valid && row.key_valid > 0) {
    const int query_end = smaller(row.query_begin + Config::kTileQ, row.query_valid);
    const KeySource<Config, Mask> keys(position_of(params.arguments, row), params.lists, where.tile, row.query_begin,
                                       query_end, lane);
    const TileCounts counts = keys.count();
    tiles = counts.partial + counts.full;
  }
  if (lane != 0) return;
  params.rows[head * params.rows_per_head + place].tiles = tiles;
  if (tiles > 0) atomicAdd(&params.state->tiles, static_cast<uint64>(tiles));
}

/// Key tiles that a part of a row has at most. A fair share is what makes twice as many parts as there is room for if
/// every row were split into such shares: rounding up costs each split row less than one part more.
__device__ __forceinline__ int part_tiles(const OrderParams& params) {
  if (params.split_capacity <= 0) return 0x7fffffff;
  const uint64 tiles = params.state->tiles * static_cast<uint64>(params.heads / params.measured_heads);
  const uint64 capacity = static_cast<uint64>(params.split_capacity);
  const uint64 share = (2 * tiles + capacity - 1) / capacity;
  return share < 0x7fffffff ? larger(larger(params.split_tiles, 1), static_cast<int>(share)) : 0x7fffffff;
}

/// One thread for each row; a grid of (rows_per_head / kBuildThreads rounded up, measured_heads) CTAs of kBuildThreads.
/// cost_of(tiles, parts, head, place, tiles of a part at most) is by what a row is sorted.
template <class CostOf>
__device__ __forceinline__ void cut_rows(const OrderParams& params, CostOf cost_of) {
  static_assert(kSectionRows % kBuildThreads == 0, "a CTA's rows lie in one section");
  const int place = blockIdx.x * kBuildThreads + threadIdx.x;
  const int head = blockIdx.y;
  int parts = 0;
  if (place < params.rows_per_head) {
    RowMeasure& row = params.rows[head * params.rows_per_head + place];
    const int most = part_tiles(params);
    parts = row.tiles < 0 ? 0 : row.tiles <= most ? 1 : divide_up(row.tiles, most);
    row.parts = parts;
    row.cost = parts == 0 ? -1 : cost_of(row.tiles, parts, head, place, most);
  }
  const int items = warp_sum(parts);
  const int split_rows = warp_sum(parts > 1 ? 1 : 0);
  const int split_slots = warp_sum(parts > 1 ? parts : 0);
  if (threadIdx.x % 32 != 0 || items == 0) return;
  const int group = params.measured_heads == 1 ? 0 : head / params.heads_per_group;
  RowTotals& totals = params.totals[group * order_sections(params) + place / kSectionRows];
  atomicAdd(&totals.items, items);
  if (split_rows == 0) return;
  atomicAdd(&totals.split_rows, split_rows);
  atomicAdd(&totals.split_slots, split_slots);
}

/// By their longest part.
__device__ __forceinline__ void cut_rows(const OrderParams& params) {
  cut_rows(params, [](int tiles, int parts, int, int, int) { return divide_up(tiles, parts); });
}

__device__ __forceinline__ RowTotals warp_sum(const RowTotals& totals) {
  return {warp_sum(totals.items), warp_sum(totals.split_rows), warp_sum(totals.split_slots)};
}

__device__ __forceinline__ void add(RowTotals& sum, const RowTotals& more) {
  sum.items += more.items;
  sum.split_rows += more.split_rows;
  sum.split_slots += more.split_slots;
}

/// The totals of sections [begin, end), counted through all groups.
__device__ __forceinline__ RowTotals totals_between(const OrderParams& params, int begin, int end, int lane) {
  RowTotals sum{0, 0, 0};
#pragma unroll 1
  for (int i = begin + lane; i < end; i += 32) add(sum, params.totals[i]);
  return warp_sum(sum);
}

/// What comes before the row at (`head`, `place`) in its section: rows with longer parts, then rows at lower places,
/// then lower heads.
__device__ __forceinline__ RowTotals totals_before(const OrderParams& params, int head, int place, int lane) {
  const bool shared = params.measured_heads == 1;
  const int first_head = shared ? 0 : head / params.heads_per_group * params.heads_per_group;
  const int end_head = shared ? 1 : smaller(first_head + params.heads_per_group, params.heads);
  const int begin = place / kSectionRows * kSectionRows;
  const int end = smaller(begin + kSectionRows, params.rows_per_head);
  const int cost = params.rows[head * params.rows_per_head + place].cost;
  RowTotals sum{0, 0, 0};
#pragma unroll 1
  for (int h = first_head; h < end_head; ++h) {
    const RowMeasure* rows = params.rows + h * params.rows_per_head;
    for (int i = begin + lane; i < end; i += 32) {
      const RowMeasure row = rows[i];
      const bool before = row.cost > cost || (row.cost == cost && (i < place || (i == place && h < head)));
      if (before) add(sum, {row.parts, row.parts > 1 ? 1 : 0, row.parts > 1 ? row.parts : 0});
    }
  }
  return warp_sum(sum);
}

/// Where the items of one head of a row go.
struct RowSlots {
  int item;
  int stride;  // from part to part
  int split_row;
  int split_slot;
};

__device__ __forceinline__ void write_part(const OrderParams& params, const RowPlace& where, int head,
                                           const RowMeasure& row, int part, const RowSlots& slots) {
  const bool split = row.parts > 1;
  const int first = static_cast<int>(static_cast<int64>(row.tiles) * part / row.parts);
  const int end = static_cast<int>(static_cast<int64>(row.tiles) * (part + 1) / row.parts);
  params.order[slots.item + part * slots.stride] = {where.tile, head, where.batch,
                                                    first,      end,  split ? slots.split_slot + part : -1};
  if (split && part == 0) {
    params.split_rows[slots.split_row] = {where.tile, head, where.batch, slots.split_slot, row.parts};
  }
}

/// One warp for each row; the grid of measure_rows.
template <class Config>
__device__ __forceinline__ void order_rows(const OrderParams& params) {
  const int lane = threadIdx.x % 32;
  const int place = blockIdx.x * kBuildWarps + threadIdx.x / 32;
  const int measured_head = blockIdx.y;
  const int sections = order_sections(params);
  const bool shared = params.measured_heads == 1;
  const RowTotals all = totals_between(params, 0, measured_groups(params) * sections, lane);
  if (place == 0 && measured_head == 0 && lane == 0) {
    params.state->order_length = all.items * (shared ? params.heads : 1);
    params.state->split_count = all.split_rows * (shared ? params.heads : 1);
  }
  if (place >= params.rows_per_head) return;
  const RowMeasure row = params.rows[measured_head * params.rows_per_head + place];
  if (row.parts == 0) return;
  const RowPlace where = row_at<Config>(params.sequences, params.rows_per_batch, params.batches, place);
  const int section = (shared ? 0 : measured_head / params.heads_per_group * sections) + place / kSectionRows;
  RowTotals before = totals_between(params, 0, section, lane);
  add(before, totals_before(params, measured_head, place, lane));
  if (!shared) {
#pragma unroll 1
    for (int part = lane; part < row.parts; part += 32) {
      write_part(params, where, measured_head, row, part, {before.items, 1, before.split_rows, before.split_slots});
    }
    return;
  }
  // The same rows for every head: group after group of heads, in a group row after row, of a row the heads innermost.
#pragma unroll 1
  for (int i = lane; i < params.heads * row.parts; i += 32) {
    const int head = i % params.heads, part = i / params.heads;
    const int first_head = head / params.heads_per_group * params.heads_per_group;
    const int heads = smaller(params.heads_per_group, params.heads - first_head);
    write_part(params, where, head, row, part,
               {first_head * all.items + heads * before.items + head - first_head, heads,
                head * all.split_rows + before.split_rows, head * all.split_slots + before.split_slots});
  }
}

}  // namespace harrier
