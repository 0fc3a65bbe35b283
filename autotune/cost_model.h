// How long a launch takes under a plan and a schedule, without running it: each row's tiles against what the units of a
// multiprocessor can do, then the very order of work that the kernels take rows in.
//
// It is there to rank plans, and its times are within a few tens of percent at best.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autotune/device_model.h"
#include "autotune/work_order.h"
#include "ir/cuda_plan.h"
#include "ir/cuda_schedule.h"
#include "ir/workload.h"

namespace harrier::autotune {

/// Of q, k, v and out.
inline constexpr double kElementBytes = 2;

/// The rows of one batch as a plan's tiles cut them.
struct BatchRows {
  RowsOfHeads heads;         // of query heads
  int64_t key_tokens = 0;    // of all sequences
  RowsOfHeads columns = {};  // of key heads, over all query heads that read them; of backward plans
  int64_t query_tokens = 0;  // of all sequences
  int64_t column_runs = 0;   // stretches of neighbouring query tiles that columns pass, of all heads
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

/// Sets what the units take together, where they overlap with an exponent of a p-norm, and the name of the slowest.
void overlap_units(TileClocks& clocks, double exponent);

/// How much L2 keeps of so many bytes that are read again and again, where they have a share of it to themselves.
double kept_by_l2(double bytes, double share, const DeviceModel& device);

struct LaunchCost {
  double us = 0;  // what plans are ranked by
  double makespan_us = 0;
  double longest_item_us = 0;
  double items_us = 0;  // of all items, one after another
  double dram_us = 0;   // of the bytes that must come from device memory
  int64_t items = 0;
};

/// CTAs that share a multiprocessor where there are so many items.
int64_t sharing_of(int64_t items, const CudaPlan& plan, const DeviceModel& device);

/// Sets makespan_us, longest_item_us and items_us.
void spread_work(const std::vector<WorkItem>& order, const RowCost& cost, int64_t ctas, LaunchCost& launch);

/// Work beside which so much comes from memory: copies run beside the products, and where they take long each waits for
/// the other now and then.
double beside_memory(double makespan_us, double dram_us);

/// `rows` are of this plan's tiles. Of either direction.
LaunchCost launch_cost(const CudaPlan& plan, const CudaSchedule& schedule, const Shape& shape, const BatchRows& rows,
                       const DeviceModel& device);

}  // namespace harrier::autotune
