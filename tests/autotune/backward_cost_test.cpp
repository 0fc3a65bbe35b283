#include "autotune/backward_cost.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace harrier::autotune {
namespace {

Shape backward_shape(int64_t heads, int64_t kv_heads, int64_t dim) {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .head_dim = dim,
          .value_dim = dim,
          .dtype = DataType::kBFloat16,
          .direction = Direction::kBackward};
}

CudaPlan backward_plan(int consumers, int tile_k) {
  return {.consumers = consumers,
          .tile_k = tile_k,
          .box_rows = tile_k,
          .stages = 2,
          .query_stages = 1,
          .ping_pong = false,
          .consumer_registers = 224,
          .producer_registers = 56};
}

CudaPlan portable_plan() {
  CudaPlan plan = backward_plan(1, 64);
  plan.family = CudaFamily::kSm80;
  return plan;
}

/// `columns` columns of so many full tiles each, alike for all heads, and rows of as many; stretches over all heads.
BatchRows column_batch(int64_t columns, int64_t tiles, int64_t tokens, int64_t column_runs) {
  const std::vector<RowTiles> items(static_cast<size_t>(columns), {.full = tiles, .partial = 0});
  return {
      .heads = {items}, .key_tokens = tokens, .columns = {items}, .query_tokens = tokens, .column_runs = column_runs};
}

CudaSchedule heads_together(int heads) { return {.heads_per_group = heads, .split_tiles = 0, .split_capacity = 0}; }

TEST(ColumnClocks, CountFiveProductsAndTheSumsOfDQ) {
  // 64 queries by 128 keys at head dim 128: 10 x 64 x 128 x 128 flops; Q, dO and the sums are 64 KiB.
  const DeviceModel device = device_model({});
  const TileClocks clocks = column_clocks(backward_plan(1, 128), backward_shape(1, 1, 128), device);
  EXPECT_DOUBLE_EQ(clocks.tensor, 10.0 * 64 * 128 * 128 / device.flops_per_clock);
  EXPECT_DOUBLE_EQ(clocks.exp, 64.0 * 128 / device.exps_per_clock);
  EXPECT_DOUBLE_EQ(clocks.l2, 65536 / device.l2_bytes_per_clock);
  EXPECT_GT(clocks.together, clocks.tensor);
  // Rows of 128 queries ask for as much of L2 for each pair, columns of half as many keys for twice as much.
  EXPECT_DOUBLE_EQ(column_clocks(backward_plan(2, 128), backward_shape(1, 1, 128), device).l2, 2 * clocks.l2);
  EXPECT_DOUBLE_EQ(column_clocks(backward_plan(1, 64), backward_shape(1, 1, 128), device).l2, clocks.l2);
}

TEST(ColumnClocks, OfTheOtherFamilyAreSevenProductsInTwoKernels) {
  const DeviceModel device = device_model({});
  const Shape shape = backward_shape(1, 1, 64);
  const double products = 2.0 * 64 * 64 * 64 / device.flops_per_clock;
  EXPECT_DOUBLE_EQ(column_clocks(portable_plan(), shape, device).tensor, 4 * products);
  EXPECT_DOUBLE_EQ(row_clocks(portable_plan(), shape, device).tensor, 3 * products);
}

TEST(BackwardCost, MoreWorkTakesNoLess) {
  rc::check([] {
    const auto columns = *rc::gen::inRange<int64_t>(1, 400);
    const auto tiles = *rc::gen::inRange<int64_t>(1, 60);
    const auto heads = *rc::gen::inRange<int64_t>(1, 12);
    const CudaPlan plan = *rc::gen::element(backward_plan(1, 128), backward_plan(2, 128), portable_plan());
    const DeviceModel device = device_model({});
    const auto us = [&](int64_t column_count, int64_t tile_count, int64_t head_count) {
      return launch_cost(plan, heads_together(1), backward_shape(head_count, head_count, 64),
                         column_batch(column_count, tile_count, 16384, head_count * column_count), device)
          .us;
    };
    RC_ASSERT(us(columns, tiles + 1, heads) > us(columns, tiles, heads));
    RC_ASSERT(us(columns + 132, tiles, heads) > us(columns, tiles, heads));
    RC_ASSERT(us(columns, tiles, heads + 1) > us(columns, tiles, heads));
  });
}

TEST(BackwardCost, HeadsThatL2CannotHoldAddToTheirSumsInMemory) {
  // 16k tokens of head dim 64: Q, dO and the sums of a head are 8.4 MB.
  const DeviceModel device = device_model({});
  const auto dram_us = [&](int heads, int64_t runs_of_column) {
    return launch_cost(backward_plan(1, 64), heads_together(heads), backward_shape(16, 16, 64),
                       column_batch(256, 26, 16384, 16 * 256 * runs_of_column), device)
        .dram_us;
  };
  EXPECT_DOUBLE_EQ(dram_us(1, 26), dram_us(2, 26));
  EXPECT_LT(dram_us(2, 26), dram_us(4, 26));
  EXPECT_LT(dram_us(4, 26), dram_us(16, 26));
  EXPECT_DOUBLE_EQ(dram_us(16, 1), dram_us(1, 26)) << "neighbouring columns pass neighbouring tiles together";
}

TEST(BackwardCost, ColumnsOfAKeyHeadAreTakenWithAllItsQueryHeads) {
  const DeviceModel device = device_model({});
  const BatchRows batch = column_batch(100, 40, 8192, 1);
  const auto cost = [&](int heads_per_group) {
    return launch_cost(backward_plan(1, 128), heads_together(heads_per_group), backward_shape(8, 2, 64), batch, device);
  };
  EXPECT_EQ(cost(4).items, 200) << "of two key heads";
  EXPECT_DOUBLE_EQ(cost(1).us, cost(4).us) << "fewer heads than read one key head make no smaller group";
}

TEST(BackwardCost, PlansThatWouldSpillComeLast) {
  const DeviceModel device = device_model({});
  const auto us = [&](const CudaPlan& plan, int64_t dim) {
    return launch_cost(plan, heads_together(1), backward_shape(4, 4, dim), column_batch(64, 64, 8192, 1), device).us;
  };
  // As ptxas finds: dK and dV of 128 columns and S and dP of 128 queries do not fit 224 registers.
  EXPECT_LT(us(backward_plan(2, 128), 64), 1.9 * us(backward_plan(1, 128), 64));
  EXPECT_GT(us(backward_plan(2, 128), 128), 3 * us(backward_plan(1, 128), 128));
}

}  // namespace
}  // namespace harrier::autotune
