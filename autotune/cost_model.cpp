#include "autotune/cost_model.h"

#include <algorithm>
#include <cmath>

#include "autotune/backward_cost.h"

namespace harrier::autotune {
namespace {

/// Instructions of a lane for each score: maximum, exponent, sum, conversion.
constexpr double kInstructionsOfScore = 5.5;

/// L2 keeps so much of the K and V of heads that are taken together; the rest belongs to Q, O and lists.
constexpr double kKeptShareOfL2 = 2.0 / 3;

/// Warpgroups (of sm_80: groups of four warps) that multiply on a multiprocessor: one's exponents hide behind another's
/// products.
double workers_of(const CudaPlan& plan) {
  const double of_cta =
      plan.family == CudaFamily::kSm90 ? plan.consumers : static_cast<double>(cuda_threads(plan)) / 128;
  return of_cta * plan.ctas_per_sm;
}

/// Registers a thread of sm_90a needs: scores and their 16-bit copies, outputs, and the rest.
bool expects_spills(const CudaPlan& plan, const Shape& shape) {
  constexpr int64_t kOtherRegisters = 28;
  return plan.family == CudaFamily::kSm90 &&
         plan.tile_k * 3 / 4 + padded_dim(shape.value_dim) / 2 + kOtherRegisters > plan.consumer_registers;
}

/// Bytes that come from device memory. Q and O pass once; K and V of heads that are taken together come once if L2
/// holds them, and otherwise as often as rows ask for them and L2 does not have them.
double dram_bytes(const CudaPlan& plan, const CudaSchedule& schedule, const Shape& shape, const BatchRows& rows,
                  int64_t tiles, const DeviceModel& device) {
  const double token_bytes = static_cast<double>(shape.head_dim + shape.value_dim) * kElementBytes;
  const auto row_count = static_cast<double>(count_rows(rows.heads, shape.heads));
  const double query_bytes = row_count * 64 * plan.consumers * token_bytes;
  const int64_t heads_per_kv_head = shape.heads / shape.kv_heads;
  const int64_t kv_heads_together = (schedule.heads_per_group + heads_per_kv_head - 1) / heads_per_kv_head;
  const double kv_bytes_of_head = static_cast<double>(rows.key_tokens) * token_bytes;
  const double kept = kept_by_l2(kv_bytes_of_head * static_cast<double>(kv_heads_together), kKeptShareOfL2, device);
  const double asked = static_cast<double>(tiles) * plan.tile_k * token_bytes;
  const double once = kv_bytes_of_head * static_cast<double>(shape.kv_heads);
  return query_bytes + std::min(asked, once + std::max(0.0, asked - once) * (1 - kept));
}

}  // namespace

double kept_by_l2(double bytes, double share, const DeviceModel& device) {
  return std::min(1.0, share * static_cast<double>(device.l2_bytes) / std::max(bytes, 1.0));
}

void overlap_units(TileClocks& clocks, double exponent) {
  const struct {
    double clocks;
    const char* name;
  } units[] = {{clocks.tensor, "tensor cores"},
               {clocks.exp, "exponents"},
               {clocks.issue, "instructions"},
               {clocks.shared, "shared memory"},
               {clocks.l2, "L2"}};
  double sum = 0;
  double most = 0;
  for (const auto& unit : units) {
    sum += std::pow(unit.clocks, exponent);
    if (unit.clocks <= most) continue;
    most = unit.clocks;
    clocks.bound = unit.name;
  }
  clocks.together = std::pow(sum, 1 / exponent);
}

TileClocks tile_clocks(const CudaPlan& plan, const Shape& shape, const DeviceModel& device) {
  const auto queries = static_cast<double>(64 * plan.consumers);
  const double keys = plan.tile_k;
  const auto qk_dim = static_cast<double>(padded_dim(shape.head_dim));
  const auto value_dim = static_cast<double>(padded_dim(shape.value_dim));
  const double tile_bytes = keys * (qk_dim + value_dim) * kElementBytes;
  TileClocks clocks;
  clocks.tensor = 2 * queries * keys * (qk_dim + value_dim) / device.flops_per_clock;
  clocks.exp = queries * keys / device.exps_per_clock;
  // Besides scores, a tile rescales sums and outputs.
  clocks.issue = queries * (keys * kInstructionsOfScore + value_dim) / device.lanes_per_clock;
  double read = 0;
  if (plan.family == CudaFamily::kSm90) {
    // Each warpgroup reads all of K and V, and its queries.
    read = plan.consumers * (tile_bytes + 64 * qk_dim * kElementBytes);
  } else {
    // Each warp does; its queries stay in registers.
    read = queries / plan.warp_rows * tile_bytes;
  }
  clocks.shared = (read + tile_bytes) / device.shared_bytes_per_clock;
  clocks.l2 = tile_bytes / device.l2_bytes_per_clock;
  const Calibration& fitted = device.calibration;
  const double workers = std::max(workers_of(plan), 1.0);
  overlap_units(clocks, fitted.overlap_of_many - (fitted.overlap_of_many - fitted.overlap_of_one) / workers);
  // Tried last: most such plans are rejected once they are compiled.
  constexpr double kSpilling = 2;
  if (expects_spills(plan, shape)) clocks.together *= kSpilling;
  return clocks;
}

RowCost row_cost(const CudaPlan& plan, const Shape& shape, int64_t sharing, const DeviceModel& device) {
  const Calibration& fitted = device.calibration;
  const double us_per_clock = 1 / (device.clock_ghz * 1e3);
  RowCost cost;
  // CTAs that share a multiprocessor share its units, but not the waiting at the start and the end of a row.
  cost.tile_us = tile_clocks(plan, shape, device).together * static_cast<double>(sharing) * us_per_clock;
  cost.partial_tile_us = cost.tile_us * fitted.partial_tile;
  cost.row_us = fitted.row_clocks * us_per_clock;
  cost.part_us = fitted.part_clocks * us_per_clock;
  return cost;
}

LaunchCost launch_cost(const CudaPlan& plan, const CudaSchedule& schedule, const Shape& shape, const BatchRows& rows,
                       const DeviceModel& device) {
  verify(schedule);
  if (shape.direction == Direction::kBackward) return backward_launch_cost(plan, schedule, shape, rows, device);
  const int64_t tiles = count_tiles(rows.heads, shape.heads);
  const std::vector<WorkItem> order =
      items_in_order(rows.heads, shape.heads, schedule.heads_per_group, part_tiles(schedule, tiles));

  LaunchCost launch;
  launch.items = std::ssize(order);
  const RowCost cost = row_cost(plan, shape, sharing_of(launch.items, plan, device), device);
  spread_work(order, cost, device.multiprocessors * plan.ctas_per_sm, launch);
  launch.dram_us = dram_bytes(plan, schedule, shape, rows, tiles, device) / (device.dram_gb_per_second * 1e3);
  launch.us = device.calibration.launch_us + beside_memory(launch.makespan_us, launch.dram_us);
  return launch;
}

int64_t sharing_of(int64_t items, const CudaPlan& plan, const DeviceModel& device) {
  const int64_t neighbours = (items + device.multiprocessors - 1) / device.multiprocessors;
  return std::clamp<int64_t>(neighbours, 1, plan.ctas_per_sm);
}

void spread_work(const std::vector<WorkItem>& order, const RowCost& cost, int64_t ctas, LaunchCost& launch) {
  std::vector<double> items;
  items.reserve(order.size());
  for (const WorkItem& item : order) {
    items.push_back(item.full * cost.tile_us + item.partial * cost.partial_tile_us + cost.row_us +
                    (item.is_part ? cost.part_us : 0));
    launch.items_us += items.back();
    launch.longest_item_us = std::max(launch.longest_item_us, items.back());
  }
  launch.makespan_us = makespan_us(items, ctas);
}

double beside_memory(double makespan_us, double dram_us) {
  constexpr double kMemoryOverlap = 4;
  return std::pow(std::pow(makespan_us, kMemoryOverlap) + std::pow(dram_us, kMemoryOverlap), 1 / kMemoryOverlap);
}

}  // namespace harrier::autotune
