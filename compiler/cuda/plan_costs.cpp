#include "compiler/cuda/plan_costs.h"

#include <algorithm>

#include "codegen/cuda/emit_mask.h"
#include "codegen/cuda/table_use.h"
#include "compiler/cuda/plan_space.h"
#include "compiler/passes/lower_pattern.h"
#include "compiler/passes/simplify.h"

namespace harrier {

autotune::DeviceModel device_model_of(const cuda::DeviceFacts& facts, const autotune::RateCalibration& calibration) {
  // Two transfers a clock, on a bus of so many bits.
  const double dram_gb_per_second = 2.0 * facts.memory_clock_khz * facts.memory_bus_bits / 8 / 1e6;
  const autotune::DeviceModel of_family = autotune::device_model({.capability_major = facts.capability_major,
                                                                  .capability_minor = facts.capability_minor,
                                                                  .multiprocessors = facts.multiprocessors,
                                                                  .l2_bytes = facts.l2_bytes,
                                                                  .dram_gb_per_second = dram_gb_per_second});
  return autotune::calibrated(of_family, calibration);
}

namespace {

/// Parts of columns whose sums take no more memory than those of dQ do.
int64_t most_column_parts(const Shape& shape, const Geometry& geometry, const ScheduleFacts& facts) {
  const int64_t part = facts.tile_k * (padded_dim(shape.head_dim) + padded_dim(shape.value_dim));
  return geometry.query_tokens * shape.heads * padded_dim(shape.head_dim) / part;
}

}  // namespace

std::vector<CudaSchedule> schedule_space(const Shape& shape, const Geometry& geometry, const ScheduleFacts& facts) {
  constexpr int kLongSplit = 48;
  const CudaSchedule chosen = choose_cuda_schedule(shape, geometry, facts);
  std::vector<CudaSchedule> schedules = {chosen};
  const auto add = [&](const CudaSchedule& schedule) {
    if (std::ranges::find(schedules, schedule) == schedules.end()) schedules.push_back(schedule);
  };
  // Columns are those of key heads: no fewer query heads than read one are taken together.
  const int64_t fewest = shape.direction == Direction::kBackward ? shape.heads / shape.kv_heads : 1;
  // Few heads together keep queries in L2 but start long columns late, unless these are split: room for more parts.
  std::vector<int> capacities = {chosen.split_capacity};
  if (shape.direction == Direction::kBackward) {
    constexpr int64_t kMostTimes = 16;
    const int64_t most = std::min(most_column_parts(shape, geometry, facts), kMostTimes * chosen.split_capacity);
    for (const int64_t capacity : {most / 2, most}) {
      if (capacity > chosen.split_capacity) capacities.push_back(static_cast<int>(capacity));
    }
  }
  for (const int capacity : capacities) {
    for (int64_t heads = fewest; heads < 2 * shape.heads; heads *= 2) {
      add({static_cast<int>(std::min(heads, shape.heads)), chosen.split_tiles, capacity});
    }
  }
  for (const int split_tiles : {0, kLongSplit}) {
    add({chosen.heads_per_group, split_tiles, chosen.split_capacity});
  }
  return schedules;
}

PlanCosts::PlanCosts(const Workload& workload, const std::vector<LengthDraw>& draws, const CudaTarget& target)
    : workload_(workload), draws_(draws), target_(target) {
  workload_.pattern = simplify(workload.pattern);
  for (LengthDraw& draw : draws_) {
    std::vector<std::string> names;
    for (const auto& [name, view] : draw.bindings) names.push_back(name);
    draw.bindings = without_needless(workload_.pattern, names, draw.bindings);
  }
}

const std::vector<autotune::BatchRows>& PlanCosts::rows_of(const CudaPlan& plan) {
  std::vector<autotune::BatchRows>& rows = rows_[{plan.consumers, plan.tile_k, plan.box_rows}];
  if (rows.empty()) {
    for (const LengthDraw& draw : draws_) rows.push_back(batch_rows(workload_, draw, plan));
  }
  return rows;
}

ScheduleFacts PlanCosts::schedule_facts(const CudaPlan& plan) const {
  const LoweredPattern lowered = lower_pattern(workload_.pattern, workload_.shape);
  return {.tile_k = plan.tile_k,
          .has_lists = key_source_of(cuda_pattern(lowered, plan)) == CudaKeySource::kLists,
          .ctas = target_.multiprocessors * plan.ctas_per_sm,
          .l2_bytes = target_.l2_bytes};
}

double PlanCosts::us(const autotune::Choice& choice, const autotune::DeviceModel& device) {
  const Shape& shape = workload_.shape;
  const std::vector<autotune::BatchRows>& rows = rows_of(choice.plan);
  const ScheduleFacts facts = schedule_facts(choice.plan);
  double sum = 0;
  for (size_t i = 0; i < draws_.size(); ++i) {
    const CudaSchedule schedule =
        choice.schedule ? *choice.schedule : choose_cuda_schedule(shape, draws_[i].geometry, facts);
    sum += autotune::launch_cost(choice.plan, schedule, shape, rows[i], device).us;
  }
  return sum;
}

std::vector<autotune::Choice> PlanCosts::choices() const {
  std::vector<autotune::Choice> choices;
  for (const CudaPlan& plan : plan_space(workload_, family_of(target_.architecture))) {
    bool is_default = true;
    for (const CudaSchedule& schedule :
         schedule_space(workload_.shape, draws_.front().geometry, schedule_facts(plan))) {
      choices.push_back({.plan = plan, .schedule = is_default ? std::nullopt : std::optional(schedule)});
      is_default = false;
    }
  }
  return choices;
}

std::vector<RankedPlan> model_plans(const Workload& workload, const std::vector<LengthDraw>& draws,
                                    const CudaTarget& target, const autotune::DeviceModel& device) {
  PlanCosts costs(workload, draws, target);
  std::vector<RankedPlan> ranked;
  for (const autotune::Choice& choice : costs.choices()) {
    ranked.push_back({.choice = choice, .us = costs.us(choice, device)});
  }
  return ranked;
}

autotune::ModelAnswer ask_model(const Workload& workload, const std::vector<LengthDraw>& draws,
                                const CudaTarget& target, const autotune::DeviceModel& device) {
  const std::vector<RankedPlan> ranked = model_plans(workload, draws, target, device);
  const auto best = std::ranges::min_element(ranked, {}, &RankedPlan::us);
  return {.choice = best->choice, .us = best->us, .default_us = ranked.front().us};
}

}  // namespace harrier
