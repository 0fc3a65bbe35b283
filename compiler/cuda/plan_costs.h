// What the tuner's cost model says of a workload's plans and schedules.
#pragma once

#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "autotune/calibrate.h"
#include "autotune/cost_model.h"
#include "autotune/ladder.h"
#include "compiler/cuda/batch_rows.h"
#include "compiler/cuda/cuda_pipeline.h"
#include "compiler/cuda/cuda_schedule.h"
#include "runtime/cuda/device.h"

namespace harrier {

/// Of the family, and with what was learned of this kind of GPU.
autotune::DeviceModel device_model_of(const cuda::DeviceFacts& facts,
                                      const autotune::RateCalibration& calibration = {});

/// Schedules worth trying: the default for these lengths, more and fewer heads together, rows split or not, columns
/// split into more parts where memory allows. The default comes first, each comes once.
std::vector<CudaSchedule> schedule_space(const Shape& shape, const Geometry& geometry, const ScheduleFacts& facts);

/// What the model says of any plan and schedule on some draws, which must outlive it. Rows are classified once for
/// each shape of tiles. Throws InvalidInput where arrays do not fit.
class PlanCosts {
 public:
  PlanCosts(const Workload& workload, const std::vector<LengthDraw>& draws, const CudaTarget& target);

  /// Microseconds, summed over the draws.
  double us(const autotune::Choice& choice, const autotune::DeviceModel& device);

  /// The plan space with every schedule: the default plan under its default schedule first, the rest in the order of
  /// the plan space, schedules of a plan one after another, the default (chosen for each draw) first.
  std::vector<autotune::Choice> choices() const;

 private:
  const std::vector<autotune::BatchRows>& rows_of(const CudaPlan& plan);
  ScheduleFacts schedule_facts(const CudaPlan& plan) const;

  Workload workload_;              // simplified
  std::vector<LengthDraw> draws_;  // without arrays that simplifying made needless
  CudaTarget target_;
  std::map<std::tuple<int, int, int>, std::vector<autotune::BatchRows>> rows_;  // by shape of tiles, of each draw
};

/// A plan with a schedule, and what the model says that it takes, summed over the draws.
struct RankedPlan {
  autotune::Choice choice;
  double us = 0;
};

/// PlanCosts::choices with their costs. Throws InvalidInput.
std::vector<RankedPlan> model_plans(const Workload& workload, const std::vector<LengthDraw>& draws,
                                    const CudaTarget& target, const autotune::DeviceModel& device);

/// The model's best beside what it says of the default. Throws InvalidInput.
autotune::ModelAnswer ask_model(const Workload& workload, const std::vector<LengthDraw>& draws,
                                const CudaTarget& target, const autotune::DeviceModel& device);

}  // namespace harrier
