#include "autotune/work_order.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "ir/error.h"

namespace harrier::autotune {
namespace {

template <typename Count>
int64_t sum_over_heads(const RowsOfHeads& rows, int64_t heads, const Count& count) {
  HARRIER_CHECK(rows.size() == 1 || std::ssize(rows) == heads, "rows are of one head or of each");
  int64_t sum = 0;
  for (const std::vector<RowTiles>& head : rows) sum += count(head);
  return rows.size() == 1 ? sum * heads : sum;
}

}  // namespace

int64_t count_tiles(const RowsOfHeads& rows, int64_t heads) {
  return sum_over_heads(rows, heads, [](const std::vector<RowTiles>& head) {
    int64_t tiles = 0;
    for (const RowTiles& row : head) tiles += row.full + row.partial;
    return tiles;
  });
}

int64_t count_rows(const RowsOfHeads& rows, int64_t heads) {
  return sum_over_heads(rows, heads, [](const std::vector<RowTiles>& head) { return std::ssize(head); });
}

std::vector<WorkItem> items_in_order(const RowsOfHeads& rows, int64_t heads, int64_t heads_per_group,
                                     int64_t most_tiles) {
  const bool alike = rows.size() == 1;
  std::vector<WorkItem> items;
  for (int64_t first = 0; first < heads; first += heads_per_group) {
    const auto group = std::ssize(items);
    const int64_t end = std::min<int64_t>(first + heads_per_group, heads);
    for (int64_t head = first; head < end; ++head) {
      for (const RowTiles& row : rows[alike ? 0 : static_cast<size_t>(head)]) {
        const int64_t tiles = row.full + row.partial;
        const int64_t parts = tiles > most_tiles ? (tiles + most_tiles - 1) / most_tiles : 1;
        const WorkItem item{.full = static_cast<double>(row.full) / static_cast<double>(parts),
                            .partial = static_cast<double>(row.partial) / static_cast<double>(parts),
                            .tiles = (tiles + parts - 1) / parts,
                            .is_part = parts > 1};
        items.insert(items.end(), static_cast<size_t>(parts), item);
      }
    }
    std::stable_sort(items.begin() + group, items.end(),
                     [](const WorkItem& a, const WorkItem& b) { return a.tiles > b.tiles; });
  }
  return items;
}

int64_t part_tiles(const CudaSchedule& schedule, int64_t tiles_of_all_heads) {
  constexpr int64_t kNoLimit = std::numeric_limits<int32_t>::max();
  if (schedule.split_tiles <= 0 || schedule.split_capacity <= 0) return kNoLimit;
  const int64_t share = (2 * tiles_of_all_heads + schedule.split_capacity - 1) / schedule.split_capacity;
  return std::max<int64_t>(schedule.split_tiles, share);
}

double makespan_us(std::span<const double> items, int64_t ctas) {
  HARRIER_CHECK(ctas >= 1, "work is given to at least one CTA");
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at;
  double end = 0;
  for (const double item : items) {
    double start = 0;
    if (std::ssize(free_at) >= ctas) {
      start = free_at.top();
      free_at.pop();
    }
    free_at.push(start + item);
    end = std::max(end, start + item);
  }
  return end;
}

}  // namespace harrier::autotune
