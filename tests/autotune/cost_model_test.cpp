#include "autotune/cost_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

namespace harrier::autotune {
namespace {

Shape shape_of(int64_t heads, int64_t dim) {
  return {.heads = heads, .kv_heads = heads, .head_dim = dim, .value_dim = dim, .dtype = DataType::kBFloat16};
}

/// Rows of one head that all heads share.
BatchRows rows_of(std::vector<RowTiles> rows, int64_t key_tokens) {
  BatchRows batch;
  batch.heads.push_back(std::move(rows));
  batch.key_tokens = key_tokens;
  return batch;
}

const CudaSchedule kUnsplit = {.heads_per_group = 1, .split_tiles = 0, .split_capacity = 0};

TEST(LaunchCost, MoreWorkTakesNoLess) {
  rc::check([] {
    const auto tiles = *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 60)));
    std::vector<RowTiles> rows;
    for (const int count : tiles) rows.push_back({.full = count, .partial = count % 3});
    std::vector<RowTiles> masked = rows;
    for (RowTiles& row : masked) row = {.full = 0, .partial = row.full + row.partial};
    const int64_t heads = *rc::gen::inRange<int64_t>(1, 20);
    const DeviceModel device = device_model({});
    const auto us = [&](const std::vector<RowTiles>& of_head, int64_t head_count) {
      return launch_cost(CudaPlan{}, kUnsplit, shape_of(head_count, 128), rows_of(of_head, 4096), device).us;
    };
    RC_ASSERT(us(masked, heads) >= us(rows, heads) - 1e-9);
    RC_ASSERT(us(rows, 2 * heads) >= us(rows, heads) - 1e-9);
    std::vector<RowTiles> all_longer = rows;
    for (RowTiles& row : all_longer) row = {.full = 2 * row.full + 1, .partial = 2 * row.partial};
    const LaunchCost shorter = launch_cost(CudaPlan{}, kUnsplit, shape_of(heads, 128), rows_of(rows, 4096), device);
    const LaunchCost longer =
        launch_cost(CudaPlan{}, kUnsplit, shape_of(heads, 128), rows_of(all_longer, 4096), device);
    RC_ASSERT(longer.items_us > shorter.items_us);
    RC_ASSERT(longer.longest_item_us > shorter.longest_item_us);
    const auto ctas = static_cast<double>(device.multiprocessors);
    RC_ASSERT(shorter.makespan_us >= std::max(shorter.longest_item_us, shorter.items_us / ctas) * (1 - 1e-12));
  });
}

TEST(LaunchCost, FasterGpuTakesLess) {
  const BatchRows rows = rows_of(std::vector<RowTiles>(64, {.full = 20, .partial = 2}), 8192);
  const auto us = [&](const DeviceModel& device) {
    return launch_cost(CudaPlan{}, kUnsplit, shape_of(16, 128), rows, device).us;
  };
  const DeviceModel device = device_model({});
  DeviceModel faster = device;
  faster.clock_ghz *= 1.2;
  DeviceModel wider = device;
  wider.multiprocessors *= 2;
  DeviceModel slower = device;
  slower.clock_ghz /= 1.5;
  EXPECT_LT(us(faster), us(device));
  EXPECT_LT(us(wider), us(device));
  EXPECT_GT(us(slower), us(device));
}

TEST(LaunchCost, OneLongRowIsSplit) {
  std::vector<RowTiles> rows(100, {.full = 4, .partial = 0});
  rows.push_back({.full = 512, .partial = 0});
  const DeviceModel device = device_model({});
  const auto cost = [&](const CudaSchedule& schedule) {
    return launch_cost(CudaPlan{}, schedule, shape_of(4, 64), rows_of(rows, 65536), device);
  };
  const LaunchCost whole = cost(kUnsplit);
  const LaunchCost split = cost({.heads_per_group = 1, .split_tiles = 16, .split_capacity = 528});
  EXPECT_EQ(whole.items, 404);
  EXPECT_EQ(split.items, 400 + 4 * 32);
  EXPECT_LT(split.us, 0.3 * whole.us);
}

TEST(LaunchCost, HeadsThatL2CannotHoldComeFromMemoryAgain) {
  const BatchRows rows = rows_of(std::vector<RowTiles>(256, {.full = 64, .partial = 0}), 131072);
  const DeviceModel device = device_model({});
  const auto dram_us = [&](int heads) {
    return launch_cost(CudaPlan{}, {.heads_per_group = heads, .split_tiles = 0, .split_capacity = 0}, shape_of(16, 64),
                       rows, device)
        .dram_us;
  };
  // K and V of one head are 33.5 MB, of which L2 keeps all but nothing of a second head's.
  EXPECT_LT(dram_us(1), dram_us(2));
  EXPECT_LT(dram_us(2), dram_us(16));
}

TEST(TileClocks, FollowTheTablesOfTheHardware) {
  // 192 x 128 of head dim 64 on an H100: as many clocks of exponents as of products, shared memory at 0.049 a score.
  const CudaPlan plan{.consumers = 3};
  const TileClocks clocks = tile_clocks(plan, shape_of(1, 64), device_model({}));
  constexpr double kScores = 192.0 * 128;
  EXPECT_DOUBLE_EQ(clocks.tensor / kScores, 0.0625);
  EXPECT_DOUBLE_EQ(clocks.exp / kScores, 0.0625);
  EXPECT_NEAR(clocks.shared / kScores, 0.049, 0.001);
  EXPECT_NEAR(clocks.issue / kScores, 0.047, 0.001);
  EXPECT_GT(clocks.together, clocks.tensor);
  EXPECT_STREQ(tile_clocks(CudaPlan{}, shape_of(1, 128), device_model({})).bound, "tensor cores");
}

}  // namespace
}  // namespace harrier::autotune
