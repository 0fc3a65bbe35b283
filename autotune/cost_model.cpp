#include "autotune/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

#include "ir/error.h"

namespace harrier::autotune {
namespace {

constexpr double kElementBytes = 2;

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

struct Item {
  double full;  // key tiles
  double partial;
  int64_t tiles;
  bool is_part;
};

/// Items in the order in which kernels take them: group of heads after group, in each the longest first.
std::vector<Item> items_in_order(const CudaSchedule& schedule, const Shape& shape, const BatchRows& rows,
                                 int64_t most_tiles) {
  const bool alike = rows.heads.size() == 1;
  std::vector<Item> items;
  for (int64_t first = 0; first < shape.heads; first += schedule.heads_per_group) {
    const auto group = std::ssize(items);
    const int64_t end = std::min<int64_t>(first + schedule.heads_per_group, shape.heads);
    for (int64_t head = first; head < end; ++head) {
      for (const RowTiles& row : rows.heads[alike ? 0 : static_cast<size_t>(head)]) {
        const int64_t tiles = row.full + row.partial;
        const int64_t parts = tiles > most_tiles ? (tiles + most_tiles - 1) / most_tiles : 1;
        const Item item{.full = static_cast<double>(row.full) / static_cast<double>(parts),
                        .partial = static_cast<double>(row.partial) / static_cast<double>(parts),
                        .tiles = (tiles + parts - 1) / parts,
                        .is_part = parts > 1};
        items.insert(items.end(), static_cast<size_t>(parts), item);
      }
    }
    std::stable_sort(items.begin() + group, items.end(),
                     [](const Item& a, const Item& b) { return a.tiles > b.tiles; });
  }
  return items;
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
  double row_count = 0;
  for (const auto& head : rows.heads) row_count += static_cast<double>(head.size());
  if (rows.heads.size() == 1) row_count *= static_cast<double>(shape.heads);
  const double query_bytes = row_count * 64 * plan.consumers * token_bytes;
  const int64_t heads_per_kv_head = shape.heads / shape.kv_heads;
  const int64_t kv_heads_together = (schedule.heads_per_group + heads_per_kv_head - 1) / heads_per_kv_head;
  const double kv_bytes_of_head = static_cast<double>(rows.key_tokens) * token_bytes;
  const double kept = std::min(1.0, kKeptShareOfL2 * static_cast<double>(device.l2_bytes) /
                                        std::max(kv_bytes_of_head * static_cast<double>(kv_heads_together), 1.0));
  const double asked = static_cast<double>(tiles) * plan.tile_k * token_bytes;
  const double once = kv_bytes_of_head * static_cast<double>(shape.kv_heads);
  return query_bytes + std::min(asked, once + std::max(0.0, asked - once) * (1 - kept));
}

}  // namespace

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
  const struct {
    double clocks;
    const char* name;
  } units[] = {{clocks.tensor, "tensor cores"},
               {clocks.exp, "exponents"},
               {clocks.issue, "instructions"},
               {clocks.shared, "shared memory"},
               {clocks.l2, "L2"}};
  const Calibration& fitted = device.calibration;
  const double overlap =
      fitted.overlap_of_many - (fitted.overlap_of_many - fitted.overlap_of_one) / std::max(workers_of(plan), 1.0);
  double sum = 0;
  double most = 0;
  for (const auto& unit : units) {
    sum += std::pow(unit.clocks, overlap);
    if (unit.clocks > most) {
      most = unit.clocks;
      clocks.bound = unit.name;
    }
  }
  clocks.together = std::pow(sum, 1 / overlap);
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

int64_t part_tiles(const CudaSchedule& schedule, int64_t tiles_of_all_heads) {
  constexpr int64_t kNoLimit = std::numeric_limits<int32_t>::max();
  if (schedule.split_tiles <= 0 || schedule.split_capacity <= 0) return kNoLimit;
  const int64_t share = (2 * tiles_of_all_heads + schedule.split_capacity - 1) / schedule.split_capacity;
  return std::max<int64_t>(schedule.split_tiles, share);
}

LaunchCost launch_cost(const CudaPlan& plan, const CudaSchedule& schedule, const Shape& shape, const BatchRows& rows,
                       const DeviceModel& device) {
  verify(schedule);
  HARRIER_CHECK(rows.heads.size() == 1 || std::ssize(rows.heads) == shape.heads, "rows are of one head or of each");
  int64_t tiles = 0;
  for (const auto& head : rows.heads) {
    for (const RowTiles& row : head) tiles += row.full + row.partial;
  }
  if (rows.heads.size() == 1) tiles *= shape.heads;
  const std::vector<Item> order = items_in_order(schedule, shape, rows, part_tiles(schedule, tiles));

  LaunchCost launch;
  launch.items = std::ssize(order);
  const int64_t neighbours = (launch.items + device.multiprocessors - 1) / device.multiprocessors;
  const int64_t sharing = std::clamp<int64_t>(neighbours, 1, plan.ctas_per_sm);
  const RowCost cost = row_cost(plan, shape, sharing, device);
  std::vector<double> items;
  items.reserve(order.size());
  for (const Item& item : order) {
    items.push_back(item.full * cost.tile_us + item.partial * cost.partial_tile_us + cost.row_us +
                    (item.is_part ? cost.part_us : 0));
    launch.items_us += items.back();
    launch.longest_item_us = std::max(launch.longest_item_us, items.back());
  }
  launch.makespan_us = makespan_us(items, device.multiprocessors * plan.ctas_per_sm);
  launch.dram_us = dram_bytes(plan, schedule, shape, rows, tiles, device) / (device.dram_gb_per_second * 1e3);

  // The copies run beside the products, and where they take long each waits for the other now and then.
  constexpr double kMemoryOverlap = 4;
  launch.us = device.calibration.launch_us +
              std::pow(std::pow(launch.makespan_us, kMemoryOverlap) + std::pow(launch.dram_us, kMemoryOverlap),
                       1 / kMemoryOverlap);
  return launch;
}

}  // namespace harrier::autotune
