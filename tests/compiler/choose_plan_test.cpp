#include "compiler/passes/choose_plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace harrier {
namespace {

CpuPlan plan_of(const Mask& mask, const CpuTarget& target) {
  Workload workload;
  workload.pattern.mask = mask;
  return choose_cpu_plan(workload, target);
}

CpuTarget avx512() {
  return {.triple = "", .cpu = "", .features = "", .vector_lanes = 16, .vector_registers = 32, .cores = 1};
}
CpuTarget avx2() {
  return {.triple = "", .cpu = "", .features = "", .vector_lanes = 8, .vector_registers = 16, .cores = 1};
}

TEST(ChoosePlan, WithoutTablesTilesAre64) {
  EXPECT_EQ(
      plan_of(causal(), avx512()),
      (CpuPlan{.tile_q = 64, .tile_k = 64, .vector_lanes = 16, .q_vectors = 4, .key_block = 4, .value_block = 4}));
  EXPECT_EQ(plan_of(causal(), avx2()),
            (CpuPlan{.tile_q = 64, .tile_k = 64, .vector_lanes = 8, .q_vectors = 2, .key_block = 5, .value_block = 4}));
}

TEST(ChoosePlan, TilesDivideEveryBlockSize) {
  EXPECT_EQ(plan_of(bigbird(64, 3, BigBirdZero{}), avx2()).tile_k, 64);
  EXPECT_EQ(plan_of(blocks(128, "t"), avx2()).tile_k, 64);
  EXPECT_EQ(plan_of(blocks(96, "t"), avx2()).tile_k, 48);
  EXPECT_EQ(plan_of(blocks(48, "t") | (~blocks(32, "u") & causal()), avx2()).tile_q, 16);
  EXPECT_EQ(plan_of(blocks(7, "t") & blocks(9, "u"), avx2()).tile_q, 1);
  EXPECT_EQ(plan_of(blocks(131, "t"), avx2()).tile_k, 1) << "a prime above 64 has no other divisor";
}

TEST(ChoosePlan, RegisterBlocksFitForEveryBlockSizeAndTarget) {
  for (const int lanes : {1, 4, 8, 16}) {
    for (const int registers : {16, 32}) {
      for (int64_t block = 1; block <= 200; ++block) {
        SCOPED_TRACE(fmt::format("{} lanes, {} registers, blocks of {}", lanes, registers, block));
        const CpuPlan plan = plan_of(blocks(block, "t"), {.triple = "",
                                                          .cpu = "",
                                                          .features = "",
                                                          .vector_lanes = lanes,
                                                          .vector_registers = registers,
                                                          .cores = 1});
        ASSERT_EQ(plan.vector_lanes, lanes);
        ASSERT_EQ(block % plan.tile_q, 0);
        ASSERT_EQ(block % plan.tile_k, 0);
        ASSERT_LE(plan.tile_q, 64);
        ASSERT_LE(plan.tile_k, 64);
        ASSERT_EQ((plan.tile_q + lanes - 1) / lanes % plan.q_vectors, 0);
        ASSERT_GE(plan.key_block, 1);
        ASSERT_GE(plan.value_block, 1);
        ASSERT_LE(plan.q_vectors * plan.key_block + plan.q_vectors + 1, registers);
        ASSERT_LE(plan.q_vectors * plan.value_block + plan.q_vectors + 1, registers);
      }
    }
  }
}

}  // namespace
}  // namespace harrier
