#include "autotune/backward_cost.h"

#include <algorithm>

#include "ir/cuda_backward_plan.h"
#include "ir/cuda_limits.h"
#include "ir/error.h"

namespace harrier::autotune {
namespace {

constexpr double kSumBytes = 4;

/// Instructions of a lane for each pair: exponent, dS, conversions, and dS on its way through shared memory.
constexpr double kInstructionsOfPair = 7;

/// Sizes of a tile as numbers of the model.
struct Tile {
  double queries, keys, qk_dim, value_dim;
};

Tile tile_of(const CudaPlan& plan, const Shape& shape) {
  return {.queries = 64.0 * plan.consumers,
          .keys = static_cast<double>(plan.tile_k),
          .qk_dim = static_cast<double>(padded_dim(shape.head_dim)),
          .value_dim = static_cast<double>(padded_dim(shape.value_dim))};
}

/// Bytes of 16-bit tensors of so many tokens, one beside the other.
double token_bytes(double tokens, const Shape& shape) {
  return tokens * static_cast<double>(shape.head_dim + shape.value_dim) * kElementBytes;
}

/// Registers that a thread needs: on sm_90a its share of dK and dV, S and dP of a tile, and the rest; two warpgroups
/// that share 64 keys have one of dK and dV each. Of sm_80's family dQ of a row, S and dP of a tile.
bool expects_backward_spills(const CudaPlan& plan, const Shape& shape) {
  const int64_t qk_dim = padded_dim(shape.head_dim), value_dim = padded_dim(shape.value_dim);
  if (plan.family == CudaFamily::kSm80) {
    constexpr int64_t kOtherRegisters = 70;
    constexpr int64_t kMostRegisters = 255;
    const int64_t launched = launch_registers(int64_t{backward_threads(plan)} * plan.ctas_per_sm);
    return qk_dim / 2 + plan.tile_k + kOtherRegisters > std::min(launched, kMostRegisters);
  }
  constexpr int64_t kOtherRegisters = 24;
  const bool divided = 64 * key_warpgroups(plan) != plan.tile_k;
  const int64_t sums = divided ? std::max(qk_dim, value_dim) : qk_dim + value_dim;
  return sums / 2 + int64_t{64} * plan.consumers + kOtherRegisters > plan.consumer_registers;
}

void overlap(TileClocks& clocks, const CudaPlan& plan, const Shape& shape, const DeviceModel& device) {
  const Calibration& fitted = device.calibration;
  overlap_units(clocks, plan.ctas_per_sm > 1 ? fitted.backward_overlap_of_many : fitted.backward_overlap_of_one);
  // Tried last: most such plans are rejected once they are compiled.
  constexpr double kSpilling = 2;
  if (expects_backward_spills(plan, shape)) clocks.together *= kSpilling;
  // Not measured: a tile is waited for where none is brought ahead.
  constexpr double kOneBuffer = 1.15;
  if (plan.stages == 1) clocks.together *= kOneBuffer;
}

RowCost cost_of(const TileClocks& clocks, int64_t sharing, const DeviceModel& device) {
  const Calibration& fitted = device.calibration;
  const double us_per_clock = 1 / (device.clock_ghz * 1e3);
  const double tile_us = clocks.together * static_cast<double>(sharing) * us_per_clock;
  return {.tile_us = tile_us,
          .partial_tile_us = tile_us * fitted.backward_partial_tile,
          .row_us = fitted.column_clocks * us_per_clock,
          .part_us = fitted.part_clocks * us_per_clock};
}

/// Bytes that CTAs read again and again, as far as they come from memory.
struct Repeated {
  double once = 0;   // of all heads
  double asked = 0;  // by all CTAs
  double held = 0;   // what L2 has to hold so that they come once
};

double repeated_bytes(const Repeated& bytes, const DeviceModel& device) {
  return bytes.once + std::max(0.0, bytes.asked - bytes.once) *
                          (1 - kept_by_l2(bytes.held, device.calibration.backward_kept_share, device));
}

struct Launch {
  const CudaPlan& plan;
  const CudaSchedule& schedule;
  const Shape& shape;
  const BatchRows& rows;
  const DeviceModel& device;

  bool sm90() const { return plan.family == CudaFamily::kSm90; }
  int64_t ctas() const { return device.multiprocessors * plan.ctas_per_sm; }
  int64_t group() const { return shape.heads / shape.kv_heads; }
  int64_t kv_heads_together() const { return std::max<int64_t>(1, schedule.heads_per_group / group()); }
  double us_of(double bytes) const { return bytes / (device.dram_gb_per_second * 1e3); }

  /// dK and dV of columns: Q and dO come again for each, and dQ's sums are read and written.
  LaunchCost columns() const {
    const int64_t tiles = count_tiles(rows.columns, shape.kv_heads);
    const std::vector<WorkItem> order =
        items_in_order(rows.columns, shape.kv_heads, kv_heads_together(), part_tiles(schedule, tiles));
    LaunchCost cost;
    cost.items = std::ssize(order);
    const int64_t sharing = sharing_of(cost.items, plan, device);
    spread_work(order, cost_of(column_clocks(plan, shape, device), sharing, device), ctas(), cost);
    // Sums are read and written; so one byte of them that L2 holds saves two.
    const double sum_bytes = sm90() ? kSumBytes * static_cast<double>(shape.head_dim) : 0;
    const double query_bytes = token_bytes(1, shape) + 2 * sum_bytes;
    const auto queries = static_cast<double>(rows.query_tokens);
    // Columns side by side pass neighbouring query tiles at about the same time: then L2 holds them for as long.
    const double scattered = static_cast<double>(rows.column_runs) / static_cast<double>(std::max<int64_t>(tiles, 1));
    const Repeated repeated{.once = queries * static_cast<double>(shape.heads) * query_bytes,
                            .asked = static_cast<double>(tiles) * 64 * plan.consumers * query_bytes,
                            .held = queries * static_cast<double>(kv_heads_together() * group()) * scattered *
                                    (token_bytes(1, shape) + sum_bytes)};
    const double keys_once =
        2 * token_bytes(static_cast<double>(rows.key_tokens), shape) * static_cast<double>(shape.kv_heads);
    cost.dram_us = us_of(keys_once + repeated_bytes(repeated, device));
    cost.us = beside_memory(cost.makespan_us, cost.dram_us);
    return cost;
  }

  /// dQ of rows, of sm_80's family: K and V come again for each.
  LaunchCost query_rows() const {
    const int64_t tiles = count_tiles(rows.heads, shape.heads);
    const std::vector<WorkItem> order =
        items_in_order(rows.heads, shape.heads, schedule.heads_per_group, part_tiles(schedule, tiles));
    LaunchCost cost;
    cost.items = std::ssize(order);
    const int64_t sharing = sharing_of(cost.items, plan, device);
    spread_work(order, cost_of(row_clocks(plan, shape, device), sharing, device), ctas(), cost);
    const double key_bytes = token_bytes(static_cast<double>(rows.key_tokens), shape);
    const Repeated repeated{.once = key_bytes * static_cast<double>(shape.kv_heads),
                            .asked = token_bytes(static_cast<double>(tiles) * plan.tile_k, shape),
                            .held = key_bytes * static_cast<double>(kv_heads_together())};
    const double queries_once =
        1.5 * token_bytes(static_cast<double>(rows.query_tokens), shape) * static_cast<double>(shape.heads);
    cost.dram_us = us_of(queries_once + repeated_bytes(repeated, device));
    cost.us = beside_memory(cost.makespan_us, cost.dram_us);
    return cost;
  }

  /// The kernel before, which reads O and dO and clears dQ's sums, and the one behind, which makes dQ of them.
  double ends_us() const {
    const auto queries = static_cast<double>(rows.query_tokens * shape.heads);
    const auto head_dim = static_cast<double>(shape.head_dim);
    const double before = 2 * kElementBytes * static_cast<double>(shape.value_dim) + 2 * kSumBytes;
    const double sums = sm90() ? (2 * kSumBytes + kElementBytes) * head_dim : 0;
    return us_of(queries * (before + sums));
  }
};

}  // namespace

TileClocks column_clocks(const CudaPlan& plan, const Shape& shape, const DeviceModel& device) {
  const Tile tile = tile_of(plan, shape);
  const bool sm90 = plan.family == CudaFamily::kSm90;
  const double pairs = tile.queries * tile.keys;
  const double row_bytes = tile.queries * (tile.qk_dim + tile.value_dim) * kElementBytes;
  const double key_bytes = (tile.qk_dim + tile.value_dim) * kElementBytes;
  const double score_bytes = pairs * kElementBytes;
  const double sum_bytes = tile.queries * tile.qk_dim * kSumBytes;
  TileClocks clocks;
  clocks.tensor = 2 * pairs * ((sm90 ? 3 : 2) * tile.qk_dim + 2 * tile.value_dim) / device.flops_per_clock;
  clocks.exp = pairs / device.exps_per_clock;
  clocks.issue = pairs * kInstructionsOfPair / device.lanes_per_clock;
  double moved = row_bytes;  // as it arrives
  double l2 = row_bytes;
  if (sm90) {
    // Each warpgroup reads Q and dO twice, and its keys once. dS goes through shared memory to dQ = dS K, whose sums
    // are written there and read by the copy engine.
    const double warpgroups = key_warpgroups(plan);
    moved += 2 * warpgroups * row_bytes + tile.keys * key_bytes;
    moved += 2 * score_bytes + tile.keys * tile.qk_dim * kElementBytes + 2 * sum_bytes;
    l2 += sum_bytes;
  } else {
    // Each warp reads Q and dO twice, and its 16 keys with them.
    moved += tile.keys / 16 * 2 * row_bytes + tile.keys * key_bytes;
  }
  clocks.shared = moved / device.shared_bytes_per_clock;
  clocks.l2 = l2 / device.l2_bytes_per_clock;
  overlap(clocks, plan, shape, device);
  return clocks;
}

TileClocks row_clocks(const CudaPlan& plan, const Shape& shape, const DeviceModel& device) {
  const Tile tile = tile_of(plan, shape);
  const double pairs = tile.queries * tile.keys;
  const double key_bytes = tile.keys * (tile.qk_dim + tile.value_dim) * kElementBytes;
  TileClocks clocks;
  clocks.tensor = 2 * pairs * (2 * tile.qk_dim + tile.value_dim) / device.flops_per_clock;
  clocks.exp = pairs / device.exps_per_clock;
  clocks.issue = pairs * kInstructionsOfPair / device.lanes_per_clock;
  // Each warp reads K twice and V once for its 16 queries, and these.
  const double read_twice = tile.keys * tile.qk_dim * kElementBytes;
  const double moved = tile.queries / 16 * (key_bytes + read_twice) +
                       tile.queries * (tile.qk_dim + tile.value_dim) * kElementBytes + key_bytes;
  clocks.shared = moved / device.shared_bytes_per_clock;
  clocks.l2 = key_bytes / device.l2_bytes_per_clock;
  overlap(clocks, plan, shape, device);
  return clocks;
}

LaunchCost backward_launch_cost(const CudaPlan& plan, const CudaSchedule& schedule, const Shape& shape,
                                const BatchRows& rows, const DeviceModel& device) {
  HARRIER_CHECK(!rows.columns.empty(), "a backward launch has columns");
  const Launch launch{plan, schedule, shape, rows, device};
  LaunchCost cost = launch.columns();
  if (!launch.sm90()) {
    const LaunchCost second = launch.query_rows();
    cost.us += second.us;
    cost.makespan_us += second.makespan_us;
    cost.longest_item_us = std::max(cost.longest_item_us, second.longest_item_us);
    cost.items_us += second.items_us;
    cost.dram_us += second.dram_us;
    cost.items += second.items;
  }
  // Kernels that follow each other on a stream start sooner than one alone.
  constexpr double kLaunches = 2;
  const double ends_us = launch.ends_us();
  cost.us += kLaunches * device.calibration.launch_us + ends_us;
  cost.dram_us += ends_us;
  return cost;
}

}  // namespace harrier::autotune
