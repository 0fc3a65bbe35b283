// The cost model on real patterns: against what an H100 measured (bench/results/h100.json), and against counting.
#include "compiler/cuda/plan_costs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "compiler/cuda/choose_cuda_plan.h"
#include "compiler/cuda/cuda_schedule.h"
#include "compiler/harrier.h"
#include "ir/text.h"
#include "packed_batch.h"

namespace harrier {
namespace {

struct Measured {
  const char* text;
  int64_t batch;
  int64_t length;
  double ms;          // of the default plan
  int64_t block = 0;  // of a table
  bool bigbird = false;
};

/// BigBird's blocks (neighbours, first and last, three at random), or a tenth at random.
std::vector<uint8_t> table_of(const Measured& measured) {
  std::mt19937_64 random(1);
  const int64_t blocks = measured.length / measured.block;
  std::vector<uint8_t> table(static_cast<size_t>(blocks * blocks));
  for (int64_t row = 0; row < blocks; ++row) {
    for (int64_t column = 0; column < blocks; ++column) {
      const bool edge = row == 0 || column == 0 || row == blocks - 1 || column == blocks - 1;
      const bool near = std::abs(row - column) <= (measured.bigbird ? 1 : 0);
      const double share = measured.bigbird ? 3.0 / static_cast<double>(blocks) : 0.1;
      const bool drawn = static_cast<double>(random() % 100'000) < share * 100'000;
      table[static_cast<size_t>(row * blocks + column)] = near || drawn || (measured.bigbird && edge) ? 1 : 0;
    }
  }
  return table;
}

/// A batch of the workload, with its table.
struct BlockDraw {
  explicit BlockDraw(const Measured& measured)
      : draw{.geometry = packed_batch(measured.batch, measured.length), .bindings = {}} {
    if (measured.block == 0) return;
    table = table_of(measured);
    const int64_t blocks = measured.length / measured.block;
    draw.bindings["table"] = {.data = table.data(), .type = ElementType::kUInt8, .shape = {blocks, blocks}};
  }
  LengthDraw draw;
  std::vector<uint8_t> table;
};

const Measured kMeasured[] = {
    {"attention a { heads 16 head_dim 128 dtype bf16 lengths fixed(8192) }", 1, 8192, 0.82},
    {"attention a { heads 16 head_dim 128 dtype bf16 mask causal lengths fixed(8192) }", 1, 8192, 0.455},
    {"attention a { heads 32 head_dim 64 dtype bf16 mask causal lengths fixed(8192) }", 1, 8192, 0.573},
    {"attention a { heads 32 kv_heads 8 head_dim 128 dtype bf16 mask causal lengths fixed(16384) }", 1, 16384, 3.42},
    {"attention a { heads 16 head_dim 128 dtype bf16 mask window(1023, 0) lengths fixed(32768) }", 1, 32768, 0.54},
    {"attention a { heads 12 head_dim 64 dtype bf16 mask window(256, 256) | global(64) lengths fixed(4096) }", 8, 4096,
     0.202},
    {"attention a { heads 12 head_dim 64 dtype bf16 mask blocks(64, @table) lengths fixed(4096) }", 8, 4096, 0.179, 64,
     true},
    {"attention a { heads 16 head_dim 64 dtype bf16 mask blocks(64, @table) lengths fixed(16384) }", 1, 16384, 0.291,
     64},
    {"attention a { heads 16 head_dim 128 dtype bf16 mask blocks(128, @table) lengths fixed(32768) }", 1, 32768, 1.485,
     128},
};

// The model was fitted to these numbers, so this holds the formulas still; it says nothing of other GPUs.
TEST(PlanCosts, AreNearWhatAnH100Measured) {
  for (const Measured& measured : kMeasured) {
    const Workload workload = parse_workload(measured.text);
    const BlockDraw drawn(measured);
    const std::vector<RankedPlan> ranked =
        model_plans(workload, {drawn.draw}, CudaTarget{}, autotune::device_model({}));
    EXPECT_EQ(ranked.front().choice.plan, choose_cuda_plan(workload, CudaFamily::kSm90));
    EXPECT_GT(ranked.front().us, 800 * measured.ms) << measured.text;
    EXPECT_LT(ranked.front().us, 1250 * measured.ms) << measured.text;
    // Below the doubt that the ladder has of the model, so that it leaves the default alone.
    const double best = std::ranges::min(ranked, {}, &RankedPlan::us).us;
    EXPECT_GT(best, (1 - autotune::kModelDoubt) * ranked.front().us) << measured.text;
  }
}

struct MeasuredBackward {
  const Measured& forward;  // the same workload
  int consumers;
  int tile_k;
  int heads_together;
  double tflops;
};

/// Of an H100, useful: five products of two flops.
const MeasuredBackward kMeasuredBackward[] = {
    {kMeasured[7], 1, 64, 1, 355},   {kMeasured[7], 1, 64, 2, 355},  {kMeasured[7], 1, 64, 4, 342},
    {kMeasured[7], 1, 64, 8, 245},   {kMeasured[7], 1, 64, 16, 178}, {kMeasured[6], 1, 64, 1, 232},
    {kMeasured[6], 1, 64, 2, 225},   {kMeasured[6], 1, 64, 4, 199},  {kMeasured[6], 1, 64, 8, 187},
    {kMeasured[8], 1, 128, 1, 544},  {kMeasured[8], 1, 128, 2, 510}, {kMeasured[8], 1, 128, 4, 386},
    {kMeasured[8], 1, 128, 16, 284}, {kMeasured[1], 1, 128, 8, 523}, {kMeasured[1], 1, 128, 1, 478},
    {kMeasured[3], 1, 128, 16, 450}, {kMeasured[5], 1, 64, 1, 232},  {kMeasured[5], 1, 128, 1, 199},
    {kMeasured[5], 2, 128, 1, 190},
};

CudaPlan backward_plan(const MeasuredBackward& measured) {
  const bool twice = measured.tile_k == 64;  // on a multiprocessor
  return {.consumers = measured.consumers,
          .tile_k = measured.tile_k,
          .box_rows = measured.tile_k,
          .stages = 2,
          .query_stages = 1,
          .ping_pong = false,
          .consumer_registers = twice ? 192 : 224,
          .producer_registers = twice ? 64 : 56,
          .ctas_per_sm = twice ? 2 : 1};
}

// As for forward kernels: numbers that the model was fitted to.
TEST(PlanCosts, OfBackwardPlansAreNearWhatAnH100Measured) {
  for (const MeasuredBackward& measured : kMeasuredBackward) {
    Workload workload = parse_workload(measured.forward.text);
    workload.shape.direction = Direction::kBackward;
    const BlockDraw drawn(measured.forward);
    const CudaPlan plan = backward_plan(measured);
    verify(plan, workload.shape);
    const autotune::BatchRows rows = batch_rows(workload, drawn.draw, plan);
    const CudaSchedule schedule{
        .heads_per_group = measured.heads_together, .split_tiles = 16, .split_capacity = 528 * plan.ctas_per_sm};
    const double us = autotune::launch_cost(plan, schedule, workload.shape, rows, autotune::device_model({})).us;
    const auto pairs = static_cast<double>(
        count_visible_pairs(workload.pattern, workload.shape, drawn.draw.geometry, drawn.draw.bindings));
    const double tflops = 10 * pairs * static_cast<double>(workload.shape.head_dim) / us / 1e6;
    EXPECT_GT(tflops, 0.8 * measured.tflops) << workload.name << ", " << measured.heads_together << " heads together";
    EXPECT_LT(tflops, 1.25 * measured.tflops) << workload.name << ", " << measured.heads_together << " heads together";
  }
}

TEST(PlanCosts, RankLegalBackwardPlansWithTheDefaultFirst) {
  for (const char* architecture : {"sm_90a", "sm_80"}) {
    const Workload workload = parse_workload(
        "attention a { heads 8 kv_heads 2 head_dim 64 dtype bf16 direction backward mask causal lengths fixed(512) }");
    const LengthDraw draw{.geometry = packed_batch(2, 512), .bindings = {}};
    const std::vector<RankedPlan> ranked =
        model_plans(workload, {draw}, {.architecture = architecture}, autotune::device_model({}));
    EXPECT_EQ(ranked.front().choice.plan, choose_cuda_plan(workload, family_of(architecture)));
    EXPECT_FALSE(ranked.front().choice.schedule);
    for (const RankedPlan& each : ranked) {
      EXPECT_NO_THROW(verify(each.choice.plan, workload.shape));
      EXPECT_GT(each.us, 0);
      EXPECT_GE(each.choice.schedule.value_or(CudaSchedule{.heads_per_group = 4}).heads_per_group, 4)
          << "heads that share a key head";
    }
  }
}

TEST(ScheduleSpace, HasTheDefaultFirstAndEachOnce) {
  const Shape shape{.heads = 12, .kv_heads = 12, .head_dim = 64, .value_dim = 64, .dtype = DataType::kBFloat16};
  const Geometry geometry = packed_batch(8, 4096);
  const ScheduleFacts facts{.tile_k = 64, .ctas = 396, .l2_bytes = 52428800};
  const std::vector<CudaSchedule> schedules = schedule_space(shape, geometry, facts);
  EXPECT_EQ(schedules.front(), choose_cuda_schedule(shape, geometry, facts));
  EXPECT_EQ(schedules[1].heads_per_group, 1);
  for (size_t i = 0; i < schedules.size(); ++i) {
    verify(schedules[i]);
    EXPECT_LE(schedules[i].heads_per_group, 12);
    EXPECT_EQ(std::ranges::count(schedules, schedules[i]), 1);
  }
}

TEST(ScheduleSpace, SplitsColumnsAsFarAsTheirPartsTakeNoMoreMemoryThanSumsOfQueries) {
  Shape shape{.heads = 32, .kv_heads = 8, .head_dim = 128, .value_dim = 128, .direction = Direction::kBackward};
  const ScheduleFacts facts{.tile_k = 128, .has_lists = false, .ctas = 132, .l2_bytes = 50 << 20};
  const auto most_parts = [&](const Geometry& geometry) {
    return std::ranges::max(schedule_space(shape, geometry, facts), {}, &CudaSchedule::split_capacity).split_capacity;
  };
  const int chosen = choose_cuda_schedule(shape, packed_batch(1, 16384), facts).split_capacity;
  // A part is 128 keys by 256 columns, sums are 128 columns for each token and head.
  EXPECT_EQ(most_parts(packed_batch(1, 1024)), chosen);
  EXPECT_EQ(most_parts(packed_batch(1, 16384)), 16384 * 32 / 256);
  EXPECT_EQ(most_parts(packed_batch(64, 16384)), 16 * chosen);
  shape.direction = Direction::kForward;
  EXPECT_EQ(most_parts(packed_batch(1, 16384)), chosen);
}

}  // namespace
}  // namespace harrier
