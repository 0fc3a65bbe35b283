// How long a launch takes under a plan and a schedule, without running it: each row's tiles against what the units of a
// multiprocessor can do, then the very order of work that the kernels take rows in.
//
// It is there to rank plans, and its times are within a few tens of percent at best.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "autotune/device_model.h"
#include "ir/cuda_plan.h"
#include "ir/cuda_schedule.h"
#include "ir/workload.h"

namespace harrier::autotune {

/// Key tiles that a row (a query tile of one head of one sequence) goes through.
struct RowTiles {
  int64_t full = 0;
  int64_t partial = 0;
  bool operator==(const RowTiles&) const = default;
};

/// The rows of one batch as a plan's tiles cut them.
struct BatchRows {
  std::vector<std::vector<RowTiles>> heads;  // one list where all heads see the same keys, else one for each query head
  int64_t key_tokens = 0;                    // of all sequences
};

/// Microseconds of a CTA that shares its multiprocessor with `sharing - 1` others.
struct RowCost {
  double tile_us = 0;
  double partial_tile_us = 0;
  double row_us = 0;
  double part_us = 0;  // of a part of a split row, beside row_us
};
RowCost row_cost(const CudaPlan& plan, const Shape& shape, int64_t sharing, const DeviceModel& device);

/// What a tile asks of the units of a multiprocessor, in clocks, and the name of what it asks most of.
struct TileClocks {
  double tensor = 0;
  double exp = 0;
  double issue = 0;
  double shared = 0;
  double l2 = 0;
  const char* bound = "";
  double together = 0;  // all of them, overlapping as far as the plan lets them
};
TileClocks tile_clocks(const CudaPlan& plan, const Shape& shape, const DeviceModel& device);

/// Items taken in order by whoever is free first. At least max(longest item, sum / ctas), at most their sum.
/// `items` may be empty; ctas is at least 1.
double makespan_us(std::span<const double> items, int64_t ctas);

struct LaunchCost {
  double us = 0;  // what plans are ranked by
  double makespan_us = 0;
  double longest_item_us = 0;
  double items_us = 0;  // of all items, one after another
  double dram_us = 0;   // of the bytes that must come from device memory
  int64_t items = 0;
};

/// `rows` are of this plan's tiles.
LaunchCost launch_cost(const CudaPlan& plan, const CudaSchedule& schedule, const Shape& shape, const BatchRows& rows,
                       const DeviceModel& device);

/// The most key tiles of a part, as the kernels that build the order decide it (part_tiles in build_order.cuh).
int64_t part_tiles(const CudaSchedule& schedule, int64_t tiles_of_all_heads);

}  // namespace harrier::autotune
