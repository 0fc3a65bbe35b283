// Plans of backward kernels: defaults fit an H100, whatever the shape; what does not fit is named.
#include "ir/cuda_backward_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan_refusal.h"

namespace harrier {
namespace {

using test::refusal;
using testing::HasSubstr;

Shape backward_shape(int64_t head_dim, int64_t value_dim) {
  return {
      .head_dim = head_dim, .value_dim = value_dim, .dtype = DataType::kBFloat16, .direction = Direction::kBackward};
}

TEST(CudaBackwardPlan, DefaultsOfSm90FitEveryHeadDimAndBlockSize) {
  for (int64_t head_dim = 16; head_dim <= 256; head_dim += 8) {
    for (const int64_t value_dim : {int64_t{16}, int64_t{64}, int64_t{128}, int64_t{256}, head_dim}) {
      for (const int64_t block_rows : {0, 16, 32, 64, 128, 192, 256}) {
        for (const int64_t keys_per_query : {256, 4096}) {
          SCOPED_TRACE(testing::Message() << head_dim << "/" << value_dim << " in blocks of " << block_rows);
          const CudaPlan plan =
              default_sm90_backward_plan(backward_shape(head_dim, value_dim), block_rows, keys_per_query);
          EXPECT_EQ(refusal(plan, backward_shape(head_dim, value_dim)), "no error");
          if (block_rows > 0 && block_rows % 64 == 0) {
            EXPECT_EQ(block_rows % (64 * plan.consumers), 0) << "a row lies in one block";
            EXPECT_EQ(block_rows % plan.tile_k, 0) << "a column lies in one block";
            EXPECT_EQ(plan.row_blocks, 1);
          }
        }
      }
    }
  }
}

TEST(CudaBackwardPlan, TwoWarpgroupsShare64KeysOfWideHeads) {
  EXPECT_EQ(key_warpgroups(default_sm90_backward_plan(backward_shape(128, 128), 0, 4096)), 2);
  EXPECT_EQ(default_sm90_backward_plan(backward_shape(128, 128), 0, 4096).tile_k, 128);
  EXPECT_EQ(key_warpgroups(default_sm90_backward_plan(backward_shape(256, 256), 0, 4096)), 2);
  EXPECT_EQ(default_sm90_backward_plan(backward_shape(256, 256), 0, 4096).tile_k, 64);
  EXPECT_EQ(backward_threads(default_sm90_backward_plan(backward_shape(256, 256), 0, 4096)), 384);
  EXPECT_EQ(backward_threads(default_sm90_backward_plan(backward_shape(64, 64), 64, 4096)), 256);
}

// Numbers that the kernel's own static_asserts have confirmed.
TEST(CudaBackwardPlan, KnowsTheSharedMemoryOfTheKernels) {
  const auto bytes = [](int64_t head_dim, int64_t value_dim, int64_t block_rows) {
    const Shape wanted = backward_shape(head_dim, value_dim);
    return backward_shared_bytes(default_sm90_backward_plan(wanted, block_rows, 4096), wanted);
  };
  EXPECT_EQ(bytes(64, 64, 0), 198960);
  EXPECT_EQ(bytes(64, 64, 64), 83228);
  EXPECT_EQ(bytes(128, 128, 0), 197936);
  EXPECT_EQ(bytes(128, 128, 64), 148784);
  EXPECT_EQ(bytes(192, 128, 0), 189744);
  EXPECT_EQ(bytes(256, 256, 0), 214320);
}

TEST(CudaBackwardPlan, TurnsOfDeterministicKernelsTakeAFewBytes) {
  for (const auto& [dim, block_rows] : {std::pair{64, 0}, {64, 64}, {128, 0}, {256, 0}}) {
    const Shape wanted = backward_shape(dim, dim);
    CudaPlan plan = default_sm90_backward_plan(wanted, block_rows, 4096);
    EXPECT_EQ(turns_of_tile(plan), 0);
    const int64_t bytes = backward_shared_bytes(plan, wanted);
    plan.deterministic = true;
    EXPECT_EQ(turns_of_tile(plan), key_warpgroups(plan));
    EXPECT_EQ(backward_shared_bytes(plan, wanted), bytes + 4 * plan.stages + 4 * key_warpgroups(plan));
    EXPECT_EQ(refusal(plan, wanted), "no error");
  }
  EXPECT_FALSE(adds_in_turn({.family = CudaFamily::kSm80, .deterministic = true})) << "its rows sum dQ up anyway";
}

TEST(CudaBackwardPlan, RoomierPlansFitToo) {
  for (const auto& [dim, block_rows] : {std::pair{64, 0}, {64, 64}, {128, 0}, {256, 0}}) {
    const Shape wanted = backward_shape(dim, dim);
    CudaPlan plan = default_sm90_backward_plan(wanted, block_rows, 4096);
    while (const auto roomier = roomier_backward_plan(plan)) {
      EXPECT_EQ(refusal(*roomier, wanted), "no error") << print(*roomier, Direction::kBackward);
      EXPECT_LT(roomier->consumers * 10 + roomier->ctas_per_sm, plan.consumers * 10 + plan.ctas_per_sm);
      plan = *roomier;
    }
    EXPECT_EQ(plan.consumer_registers, 224);
  }
}

TEST(CudaBackwardPlan, SaysWhatItIs) {
  const auto text = [](const CudaPlan& plan) { return print(plan, Direction::kBackward); };
  CudaPlan plan = {.consumers = 1,
                   .tile_k = 128,
                   .box_rows = 128,
                   .stages = 2,
                   .query_stages = 1,
                   .ping_pong = false,
                   .consumer_registers = 224,
                   .producer_registers = 56};
  EXPECT_EQ(
      text(plan),
      "rows of 64 queries, columns of 128 keys, 2 warpgroups, 2 stages, 224/56 registers, 1 CTA a multiprocessor");
  plan.tile_k = plan.box_rows = 64;
  plan.stages = 1;
  plan.ctas_per_sm = 2;
  plan.fold_scale = false;
  EXPECT_EQ(text(plan),
            "rows of 64 queries, columns of 64 keys, 1 warpgroup, 1 stage, 224/56 registers, 2 CTAs a multiprocessor, "
            "scale not folded");
  plan.deterministic = true;
  EXPECT_THAT(text(plan), testing::EndsWith("scale not folded, deterministic"));
  plan = default_sm80_backward_plan(backward_shape(64, 64), 32, 4096);
  EXPECT_EQ(text(plan),
            "rows of 64 queries, columns of 64 keys, 4 warps, 2 stages, 2 CTAs a multiprocessor, tables looked up");
}

TEST(CudaBackwardPlan, NamesWhatDoesNotFit) {
  CudaPlan plan = default_sm90_backward_plan(backward_shape(64, 64), 0, 4096);
  plan.tile_k = plan.box_rows = 96;
  EXPECT_THAT(refusal(plan, backward_shape(64, 64)), HasSubstr("columns of 96 keys"));
  plan = default_sm90_backward_plan(backward_shape(64, 64), 64, 4096);
  plan.consumers = 2;
  EXPECT_THAT(refusal(plan, backward_shape(64, 64)), HasSubstr("rows of 128 queries for 1 warpgroup"));
  plan = default_sm90_backward_plan(backward_shape(64, 64), 0, 4096);
  plan.consumer_registers = 240;
  EXPECT_THAT(refusal(plan, backward_shape(64, 64)), HasSubstr("536 registers"));
  Shape deterministic = backward_shape(64, 64);
  deterministic.deterministic = true;
  plan = default_sm90_backward_plan(deterministic, 0, 4096);
  EXPECT_THAT(refusal(plan, deterministic), HasSubstr("take a deterministic plan"));
  EXPECT_EQ(refusal(default_sm80_backward_plan(deterministic, 0, 4096), deterministic), "no error");
  plan = default_sm90_backward_plan(backward_shape(128, 128), 0, 4096);
  plan.ctas_per_sm = 2;
  EXPECT_THAT(refusal(plan, backward_shape(128, 128)), HasSubstr("exceed the 233472 of a multiprocessor"));
}

}  // namespace
}  // namespace harrier
