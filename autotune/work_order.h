// The order in which CTAs take the rows of a launch (or the columns of a backward one), and when the last of them is
// done.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ir/cuda_schedule.h"

namespace harrier::autotune {

/// Key tiles that a row (a query tile of one head of one sequence) goes through; or query tiles that a column (a key
/// tile of one key head) goes through.
struct RowTiles {
  int64_t full = 0;
  int64_t partial = 0;
  bool operator==(const RowTiles&) const = default;
};

/// Of heads, one after another; one list where all of them are alike.
using RowsOfHeads = std::vector<std::vector<RowTiles>>;

/// Tiles of all heads, and rows.
int64_t count_tiles(const RowsOfHeads& rows, int64_t heads);
int64_t count_rows(const RowsOfHeads& rows, int64_t heads);

/// A row, or a part of one.
struct WorkItem {
  double full = 0;  // tiles
  double partial = 0;
  int64_t tiles = 0;
  bool is_part = false;
};

/// Items in the order in which kernels take them: group of heads after group, in each the longest first.
std::vector<WorkItem> items_in_order(const RowsOfHeads& rows, int64_t heads, int64_t heads_per_group,
                                     int64_t most_tiles);

/// The most tiles of a part, as the kernels that build the order decide it (part_tiles in build_order.cuh).
int64_t part_tiles(const CudaSchedule& schedule, int64_t tiles_of_all_heads);

/// Items taken in order by whoever is free first. At least max(longest item, sum / ctas), at most their sum.
/// `items` may be empty; ctas is at least 1.
double makespan_us(std::span<const double> items, int64_t ctas);

}  // namespace harrier::autotune
