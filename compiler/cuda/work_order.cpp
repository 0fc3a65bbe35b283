#include "compiler/cuda/work_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace harrier {
namespace {

constexpr int kWholeRow = 0x7fffffff;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Appends the items of one row: itself, or its parts.
void append(HostWorkOrder& order, const SplitRow& row, int tiles, int split_tiles) {
  if (split_tiles <= 0 || tiles <= split_tiles) {
    order.items.push_back({row.query_tile, row.head, row.batch, 0, kWholeRow, -1});
    return;
  }
  const auto parts = static_cast<int>(ceil_div(tiles, split_tiles));
  for (int part = 0; part < parts; ++part) {
    const auto first = static_cast<int>(int64_t{tiles} * part / parts);
    const auto last = static_cast<int>(int64_t{tiles} * (part + 1) / parts);
    order.items.push_back({row.query_tile, row.head, row.batch, first, last, order.split_slots + part});
  }
  order.split_rows.push_back({row.query_tile, row.head, row.batch, order.split_slots, parts});
  order.split_slots += parts;
}

}  // namespace

std::string print(const CudaSchedule& schedule) {
  return fmt::format("{} head{} together, {}", schedule.heads_per_group, schedule.heads_per_group == 1 ? "" : "s",
                     schedule.split_tiles == 0 ? std::string("no row split")
                                               : fmt::format("rows of more than {} tiles split", schedule.split_tiles));
}

RowTiles count_row_tiles(const TileMap& map, const Geometry& geometry, int64_t tile_k) {
  const int64_t boxes = tile_k / map.tile_k;
  RowTiles rows;
  rows.heads = map.heads;
  for (const Sequence& sequence : geometry.sequences) {
    rows.query_tiles = std::max(rows.query_tiles, ceil_div(sequence.query_length, map.tile_q));
  }
  rows.tiles.resize(static_cast<size_t>(std::ssize(geometry.sequences) * map.heads * rows.query_tiles));
  for (int64_t b = 0; b < std::ssize(geometry.sequences); ++b) {
    for (int64_t head = 0; head < map.heads; ++head) {
      for (int64_t tile = 0; tile < map.row_tiles(b); ++tile) {
        const int64_t row = map.row_index(b, head, tile);
        int64_t listed = 0;
        for (int64_t i = map.run_offsets[row]; i < map.run_offsets[row + 1]; ++i) {
          listed += ceil_div(map.runs[i].end, map.tile_k) - map.runs[i].begin / map.tile_k;
        }
        rows.tiles[static_cast<size_t>(rows.index(b, head, tile))] = static_cast<int32_t>(ceil_div(listed, boxes));
      }
    }
  }
  return rows;
}

CudaSchedule choose_cuda_schedule(const RowTiles& rows, const Shape& shape, const Geometry& geometry, int64_t ctas,
                                  int64_t l2_bytes) {
  CudaSchedule schedule;
  int64_t longest = 1;
  for (const Sequence& sequence : geometry.sequences) longest = std::max(longest, sequence.key_length);
  const int64_t bytes_of_kv_head = longest * (shape.head_dim + shape.value_dim) * 2;
  const int64_t group_size = shape.heads / shape.kv_heads;
  // Two thirds of L2, in whole groups of heads that share K and V.
  const int64_t kv_heads = std::max<int64_t>(1, l2_bytes * 2 / 3 / bytes_of_kv_head);
  const int64_t all_heads = shape.heads * std::max<int64_t>(1, std::ssize(geometry.sequences));
  schedule.heads_per_group = static_cast<int>(std::clamp<int64_t>(kv_heads * group_size, 1, all_heads));

  const int64_t copies = shape.heads / rows.heads;
  const int64_t total = copies * std::accumulate(rows.tiles.begin(), rows.tiles.end(), int64_t{0});
  const int64_t most = rows.tiles.empty() ? 0 : *std::ranges::max_element(rows.tiles);
  const int64_t fair = ceil_div(total, std::max<int64_t>(ctas, 1));
  // Longest first balances rows up to half a CTA's fair part; longer ones become parts that still pipeline well.
  constexpr int64_t kShortestPart = 8;
  if (2 * most > fair) {
    const int64_t part = std::max(kShortestPart, ceil_div(fair, int64_t{4}));
    if (most > 2 * part) schedule.split_tiles = static_cast<int>(part);
  }
  return schedule;
}

HostWorkOrder order_work(const RowTiles& rows, const Geometry& geometry, int64_t heads, int64_t tile_q,
                         const CudaSchedule& schedule) {
  struct Row {
    int32_t tiles;
    SplitRow place;
  };
  HostWorkOrder order;
  std::vector<Row> group;
  const auto flush = [&] {
    std::ranges::stable_sort(group, std::ranges::greater{}, &Row::tiles);
    for (const Row& row : group) append(order, row.place, row.tiles, schedule.split_tiles);
    group.clear();
  };
  // Heads count on over the sequences: short sequences share a group.
  const int64_t batch = std::ssize(geometry.sequences);
  const int64_t all_heads = batch * heads;
  for (int64_t first = 0; first < all_heads; first += schedule.heads_per_group) {
    const int64_t last = std::min(all_heads, first + schedule.heads_per_group);
    // Tiles outside, heads inside: equal rows of neighbouring heads run side by side.
    for (int64_t tile = rows.query_tiles; tile-- > 0;) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t b = i / heads;
        const int64_t head = i % heads;
        if (tile * tile_q >= geometry.sequences[static_cast<size_t>(b)].query_length) continue;
        group.push_back({rows.tiles[static_cast<size_t>(rows.index(b, head, tile))],
                         {static_cast<int>(tile), static_cast<int>(head), static_cast<int>(b), 0, 0}});
      }
    }
    flush();
  }
  return order;
}

}  // namespace harrier
