#include "compiler/passes/schedule_rows.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace harrier {
namespace {

/// One row of the map. Rows of heads that share a mask are one entry until they are written out.
struct Entry {
  int64_t cost;
  int32_t batch;
  int32_t head;
  int32_t tile;
};

/// Keys to visit, in quarters: a partial tile evaluates the predicate for each pair, a key that is only counted costs
/// no product.
int64_t cost_of(const TileMap& map, int64_t row) {
  constexpr int64_t kFullCost = 4;
  constexpr int64_t kPartialCost = 5;
  constexpr int64_t kCountOnlyCost = 1;
  int64_t cost = 0;
  for (int64_t i = map.run_offsets[row]; i < map.run_offsets[row + 1]; ++i) {
    const KeyRun& run = map.runs[i];
    const int64_t key_cost = run.count_only != 0 ? kCountOnlyCost : run.count > 0 ? kFullCost : kPartialCost;
    cost += (run.end - run.begin) * key_cost;
  }
  return cost;
}

/// Rows of an order that are neighbouring tiles of one head.
struct Stretch {
  int64_t begin;
  int64_t count;
};

std::vector<Stretch> find_stretches(const std::vector<ScheduledRow>& order) {
  std::vector<Stretch> stretches;
  for (int64_t i = 0; i < std::ssize(order); ++i) {
    if (!stretches.empty()) {
      Stretch& last = stretches.back();
      const ScheduledRow& first = order[last.begin];
      const ScheduledRow& row = order[i];
      if (row.batch == first.batch && row.head == first.head && row.tile - first.tile == i - last.begin) {
        ++last.count;
        continue;
      }
    }
    stretches.push_back({.begin = i, .count = 1});
  }
  return stretches;
}

/// 0 to count - 1 in steps that set neighbours as far apart as leaves as many rows between any two of them.
std::vector<int64_t> spread_positions(int64_t count) {
  const auto step = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
  std::vector<int64_t> positions;
  for (int64_t start = 0; start < step; ++start) {
    for (int64_t position = start; position < count; position += step) positions.push_back(position);
  }
  return positions;
}

}  // namespace

std::vector<ScheduledRow> schedule_rows(const TileMap& map, const Geometry& geometry, int64_t heads) {
  std::vector<Entry> entries;
  entries.reserve(map.run_offsets.size());
  for (int64_t batch = 0; batch < std::ssize(geometry.sequences); ++batch) {
    const int64_t tiles = map.row_tiles(batch);
    for (int64_t head = 0; head < map.heads; ++head) {
      for (int64_t tile = 0; tile < tiles; ++tile) {
        entries.push_back({.cost = cost_of(map, map.row_index(batch, head, tile)),
                           .batch = static_cast<int32_t>(batch),
                           .head = static_cast<int32_t>(head),
                           .tile = static_cast<int32_t>(tile)});
      }
    }
  }
  // Stable, so equal rows keep the order above: sequence by sequence, head by head.
  std::ranges::stable_sort(entries, std::ranges::greater{}, &Entry::cost);

  const auto copies = static_cast<int32_t>(map.heads == 1 ? heads : 1);
  std::vector<ScheduledRow> order;
  order.reserve(entries.size() * static_cast<size_t>(copies));
  for (auto group = entries.begin(); group != entries.end();) {
    const auto is_other = [&](const Entry& entry) { return entry.cost != group->cost || entry.batch != group->batch; };
    const auto end = std::find_if(group, entries.end(), is_other);
    for (int32_t copy = 0; copy < copies; ++copy) {
      for (auto entry = group; entry != end; ++entry) {
        order.push_back({.batch = entry->batch, .head = entry->head + copy, .tile = entry->tile});
      }
    }
    group = end;
  }
  return order;
}

std::vector<ScheduledRow> spread_rows(const std::vector<ScheduledRow>& order, int64_t heads_per_key_head) {
  const std::vector<Stretch> stretches = find_stretches(order);
  std::vector<ScheduledRow> spread;
  spread.reserve(order.size());
  for (auto first = stretches.begin(); first != stretches.end();) {
    const auto end = std::find_if(first, stretches.end(), [&](const Stretch& other) {
      return order[other.begin].batch != order[first->begin].batch || other.count != first->count;
    });
    // Heads that share keys follow each other last.
    std::vector<Stretch> heads(first, end);
    std::ranges::stable_sort(heads, std::ranges::less{},
                             [&](const Stretch& stretch) { return order[stretch.begin].head % heads_per_key_head; });
    for (const int64_t row : spread_positions(first->count)) {
      for (const Stretch& head : heads) spread.push_back(order[head.begin + row]);
    }
    first = end;
  }
  return spread;
}

}  // namespace harrier
