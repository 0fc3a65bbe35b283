// Default plans, the plan space and default schedules of GPUs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "compiler/cuda/choose_cuda_plan.h"
#include "compiler/cuda/cuda_schedule.h"
#include "compiler/cuda/plan_space.h"
#include "ir/text.h"

namespace harrier {
namespace {

Workload workload_of(Mask mask, int64_t head_dim, int64_t length = 8192) {
  return {
      .name = "test",
      .shape = {.heads = 8, .kv_heads = 2, .head_dim = head_dim, .value_dim = head_dim, .dtype = DataType::kBFloat16},
      .pattern = {.mask = std::move(mask)},
      .lengths = FixedLength{length}};
}

Geometry sequence_of(int64_t length) {
  return {.sequences = {{length, length, length, length, 0, 0}}, .query_tokens = length, .key_tokens = length};
}

TEST(ExpectedKeys, FollowTheMask) {
  EXPECT_EQ(expected_keys_per_query(all(), 1000), 1000);
  EXPECT_EQ(expected_keys_per_query(none(), 1000), 0);
  EXPECT_EQ(expected_keys_per_query(causal(), 1000), 500);
  EXPECT_EQ(expected_keys_per_query(window(100, 20), 1000), 121);
  EXPECT_EQ(expected_keys_per_query(window(100, 20) | sink(4), 1000), 125);
  EXPECT_EQ(expected_keys_per_query(window(100, 0) & causal(), 1000), 101);
  EXPECT_EQ(expected_keys_per_query(~sink(4), 1000), 996);
  EXPECT_EQ(expected_keys_per_query(window(5000, 5000), 1000), 1000);
}

TEST(PlanSpace, HoldsTheDefaultFirstAndLegalPlansOnce) {
  for (const int64_t head_dim : {64, 128, 192, 256}) {
    for (const Mask& mask : {causal(), blocks(64, "table"), blocks(128, "table"), blocks(16, "table")}) {
      for (const Direction direction : {Direction::kForward, Direction::kBackward}) {
        Workload workload = workload_of(mask, head_dim);
        workload.shape.direction = direction;
        SCOPED_TRACE(print(workload));
        for (const CudaFamily family : {CudaFamily::kSm90, CudaFamily::kSm80}) {
          const std::vector<CudaPlan> plans = plan_space(workload, family);
          ASSERT_FALSE(plans.empty());
          EXPECT_EQ(plans.front(), choose_cuda_plan(workload, family));
          for (size_t i = 0; i < plans.size(); ++i) {
            EXPECT_EQ(plans[i].family, family);
            EXPECT_NO_THROW(verify(plans[i], workload.shape)) << print(plans[i], workload.shape.direction);
            for (size_t j = 0; j < i; ++j) EXPECT_NE(plans[i], plans[j]) << print(plans[i], workload.shape.direction);
          }
        }
      }
    }
  }
}

TEST(PlanSpace, VariesRowsTilesAndCtasInBothFamilies) {
  for (const CudaFamily family : {CudaFamily::kSm90, CudaFamily::kSm80}) {
    std::set<int> consumers, tiles, ctas;
    for (const CudaPlan& plan : plan_space(workload_of(causal(), 64), family)) {
      consumers.insert(plan.consumers);
      tiles.insert(plan.tile_k);
      ctas.insert(plan.ctas_per_sm);
    }
    EXPECT_GE(consumers.size(), 2);
    EXPECT_GE(tiles.size(), 3);
    EXPECT_GE(ctas.size(), 3);
  }
}

TEST(PlanSpace, VariesRowsColumnsAndBuffersOfBackwardPlans) {
  for (const CudaFamily family : {CudaFamily::kSm90, CudaFamily::kSm80}) {
    Workload workload = workload_of(causal(), 64);
    workload.shape.direction = Direction::kBackward;
    std::set<int> consumers, tiles, stages, ctas;
    for (const CudaPlan& plan : plan_space(workload, family)) {
      consumers.insert(plan.consumers);
      tiles.insert(plan.tile_k);
      stages.insert(plan.stages);
      ctas.insert(plan.ctas_per_sm);
      EXPECT_EQ(plan.box_rows, plan.tile_k);
    }
    EXPECT_EQ(consumers.size(), 2);
    EXPECT_GE(tiles.size(), 2);
    EXPECT_EQ(stages.size(), 2);
    EXPECT_GE(ctas.size(), 2);
  }
}

TEST(PlanSpace, IsDeterministicWhereTheWorkloadIs) {
  for (const bool deterministic : {false, true}) {
    Workload workload = workload_of(blocks(64, "table"), 64);
    workload.shape.direction = Direction::kBackward;
    workload.shape.deterministic = deterministic;
    for (const CudaPlan& plan : plan_space(workload, CudaFamily::kSm90)) EXPECT_EQ(plan.deterministic, deterministic);
    for (const CudaPlan& plan : plan_space(workload, CudaFamily::kSm80)) EXPECT_FALSE(plan.deterministic);
  }
}

TEST(PlanSpace, BackwardPlansReadTablesAsTheDefaultDoesOrBetter) {
  for (const int64_t block : {16, 32, 64, 128}) {
    for (const CudaFamily family : {CudaFamily::kSm90, CudaFamily::kSm80}) {
      Workload workload = workload_of(blocks(block, "table"), 64);
      workload.shape.direction = Direction::kBackward;
      const std::vector<CudaPlan> plans = plan_space(workload, family);
      EXPECT_GT(plans.size(), 1) << block;
      for (const CudaPlan& plan : plans) {
        EXPECT_TRUE(plan.row_blocks == plans.front().row_blocks || plans.front().row_blocks == 0) << block;
      }
    }
  }
}

TEST(CudaPlans, DoNotFoldAScaleThatIsNotPositive) {
  Workload workload = workload_of(causal(), 64);
  EXPECT_TRUE(choose_cuda_plan(workload, CudaFamily::kSm90).fold_scale);
  workload.pattern.score.scale = -0.5;
  EXPECT_FALSE(choose_cuda_plan(workload, CudaFamily::kSm90).fold_scale);
  workload.pattern.score.scale = 0.0;
  EXPECT_FALSE(choose_cuda_plan(workload, CudaFamily::kSm80).fold_scale);
}

TEST(CudaSchedules, TakeHeadsTogetherWhoseKeysAndValuesFitTwoThirdsOfL2) {
  const Shape shape = workload_of(causal(), 128).shape;
  const auto heads = [&](int64_t length, int64_t l2_bytes) {
    return choose_cuda_schedule(shape, sequence_of(length), {.tile_k = 128, .ctas = 132, .l2_bytes = l2_bytes})
        .heads_per_group;
  };
  // 8192 keys of K and V in 2 x 128 columns of 16 bits are 4 MiB; 4 query heads share them.
  EXPECT_EQ(heads(8192, int64_t{6} << 20), 4);
  EXPECT_EQ(heads(8192, int64_t{12} << 20), 8);
  EXPECT_EQ(heads(8192, int64_t{1} << 40), 8) << "no more than there are";
  EXPECT_EQ(heads(int64_t{1} << 24, int64_t{1} << 20), 4) << "one head of K and V at least";
  EXPECT_EQ(heads(0, int64_t{1} << 20), 8);
}

/// What was fastest on an H100: see bench/NOTES.md.
TEST(CudaSchedules, TakeHeadsOfColumnsTogetherWhoseQueriesFitHalfOfL2OrThatGiveEveryCtaSome) {
  const auto heads_together = [](int64_t heads, int64_t kv_heads, int64_t dim, int64_t tokens, bool has_lists,
                                 int64_t tile_k, int64_t ctas) {
    const Shape shape{.heads = heads,
                      .kv_heads = kv_heads,
                      .head_dim = dim,
                      .value_dim = dim,
                      .dtype = DataType::kBFloat16,
                      .direction = Direction::kBackward};
    return choose_cuda_schedule(shape, sequence_of(tokens), {tile_k, has_lists, ctas, int64_t{50} << 20})
        .heads_per_group;
  };
  EXPECT_EQ(heads_together(16, 16, 64, 16384, true, 64, 264), 3) << "8 MiB a head: three fit";
  EXPECT_EQ(heads_together(12, 12, 64, 32768, true, 64, 264), 1) << "two do not";
  EXPECT_EQ(heads_together(16, 16, 128, 32768, true, 128, 132), 1) << "not even one";
  EXPECT_EQ(heads_together(16, 16, 128, 8192, false, 128, 132), 8) << "64 columns a head";
  EXPECT_EQ(heads_together(32, 8, 128, 16384, false, 128, 132), 16) << "four key heads of 128 columns";
  EXPECT_EQ(heads_together(4, 4, 64, 0, false, 64, 132), 4);
}

}  // namespace
}  // namespace harrier
