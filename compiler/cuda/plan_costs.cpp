#include "compiler/cuda/plan_costs.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "compiler/bind.h"
#include "compiler/cuda/cuda_schedule.h"
#include "compiler/cuda/plan_space.h"
#include "compiler/passes/choose_plan.h"
#include "compiler/passes/classify_tiles.h"
#include "compiler/passes/lower_pattern.h"
#include "compiler/passes/simplify.h"

namespace harrier {
namespace {

/// Stretches of queries that see a key box: all of it, or some.
struct BoxCounts {
  int64_t full = 0;
  int64_t partial = 0;
};

/// Adds the boxes of a stretch of queries to what is seen of each: full stretches and partial ones. A box that a run
/// does not fill is partial.
void add_boxes(const TileMap& map, int64_t row, int64_t box, std::map<int64_t, BoxCounts>& seen) {
  std::map<int64_t, bool> whole;
  for (int64_t i = map.run_offsets[row]; i < map.run_offsets[row + 1]; ++i) {
    const KeyRun& run = map.runs[i];
    if (run.count_only != 0) continue;
    for (int64_t place = run.begin / box; place < (run.end + box - 1) / box; ++place) {
      const bool filled = run.count > 0 && run.begin <= place * box && (place + 1) * box <= run.end;
      const auto [found, is_new] = whole.try_emplace(place, filled);
      if (!is_new) found->second = false;
    }
  }
  for (const auto& [place, filled] : whole) {
    BoxCounts& counts = seen[place];
    ++(filled ? counts.full : counts.partial);
  }
}

}  // namespace

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

autotune::BatchRows batch_rows(const Workload& workload, const LengthDraw& draw, const CudaPlan& plan) {
  const Shape& shape = workload.shape;
  const BoundPattern bound =
      harrier::bind(workload.pattern, shape, lower_pattern(workload.pattern, shape), draw.geometry, draw.bindings);
  // Stretches of queries and keys that lie in one block of a table, so that tiles are classified without looking at
  // pairs; a row may be several such stretches.
  const int64_t block = common_block(workload.pattern.mask);
  const int64_t queries = int64_t{64} * plan.consumers;
  const int64_t stretch = block > 0 ? std::gcd(queries, block) : queries;
  const int64_t box = block > 0 ? std::gcd(int64_t{plan.box_rows}, block) : plan.box_rows;
  const TileMap map = classify_tiles(workload.pattern, shape, bound, draw.geometry, stretch, box);
  const int64_t boxes_of_tile = plan.tile_k / box;
  const int64_t stretches_of_row = queries / stretch;
  autotune::BatchRows rows;
  rows.key_tokens = draw.geometry.key_tokens;
  rows.heads.resize(static_cast<size_t>(map.heads));
  for (int64_t head = 0; head < map.heads; ++head) {
    for (int64_t batch = 0; batch < std::ssize(draw.geometry.sequences); ++batch) {
      for (int64_t first = 0; first < map.row_tiles(batch); first += stretches_of_row) {
        const int64_t stretches = std::min(stretches_of_row, map.row_tiles(batch) - first);
        std::map<int64_t, BoxCounts> seen;
        for (int64_t i = 0; i < stretches; ++i) add_boxes(map, map.row_index(batch, head, first + i), box, seen);
        const auto is_whole = [&](const auto& entry) { return entry.second.full == stretches; };
        const int64_t boxes = std::ssize(seen);
        const int64_t partial_boxes = boxes - std::ranges::count_if(seen, is_whole);
        // Tiles are filled with partial boxes first; the last of them takes full ones too.
        const int64_t partial = (partial_boxes + boxes_of_tile - 1) / boxes_of_tile;
        const int64_t all = (boxes + boxes_of_tile - 1) / boxes_of_tile;
        rows.heads[static_cast<size_t>(head)].push_back({.full = all - partial, .partial = partial});
      }
    }
  }
  return rows;
}

std::vector<CudaSchedule> schedule_space(const Shape& shape, const Geometry& geometry, int64_t ctas, int64_t l2_bytes) {
  constexpr int kLongSplit = 48;
  const CudaSchedule chosen = choose_cuda_schedule(shape, geometry, ctas, l2_bytes);
  std::vector<CudaSchedule> schedules = {chosen};
  const auto add = [&](const CudaSchedule& schedule) {
    if (std::ranges::find(schedules, schedule) == schedules.end()) schedules.push_back(schedule);
  };
  for (int64_t heads = 1; heads < 2 * shape.heads; heads *= 2) {
    add({static_cast<int>(std::min(heads, shape.heads)), chosen.split_tiles, chosen.split_capacity});
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

double PlanCosts::us(const autotune::Choice& choice, const autotune::DeviceModel& device) {
  const Shape& shape = workload_.shape;
  const std::vector<autotune::BatchRows>& rows = rows_of(choice.plan);
  const int64_t ctas = target_.multiprocessors * choice.plan.ctas_per_sm;
  double sum = 0;
  for (size_t i = 0; i < draws_.size(); ++i) {
    const CudaSchedule schedule =
        choice.schedule ? *choice.schedule : choose_cuda_schedule(shape, draws_[i].geometry, ctas, target_.l2_bytes);
    sum += autotune::launch_cost(choice.plan, schedule, shape, rows[i], device).us;
  }
  return sum;
}

std::vector<autotune::Choice> PlanCosts::choices() const {
  std::vector<autotune::Choice> choices;
  for (const CudaPlan& plan : plan_space(workload_, family_of(target_.architecture))) {
    const int64_t ctas = target_.multiprocessors * plan.ctas_per_sm;
    bool is_default = true;
    for (const CudaSchedule& schedule :
         schedule_space(workload_.shape, draws_.front().geometry, ctas, target_.l2_bytes)) {
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
