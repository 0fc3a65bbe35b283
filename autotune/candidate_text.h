// Plans and schedules as text: what databases keep, and read again strictly.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ir/cuda_plan.h"
#include "ir/cuda_schedule.h"

namespace harrier::autotune {

/// What a workload runs with. Without a schedule, the default is chosen when lengths are known.
struct Choice {
  CudaPlan plan;
  std::optional<CudaSchedule> schedule = {};
  bool operator==(const Choice&) const = default;
};

/// "family=0 consumers=2 tile_k=128 ... heads_per_group=8 split_tiles=16 split_capacity=528": every number, in one
/// order and one spelling.
std::string to_text(const CudaPlan& plan);
std::string to_text(const CudaSchedule& schedule);
/// The plan's, then the schedule's or "schedule=default".
std::string to_text(const Choice& choice);

/// Nothing for what to_text did not write: another order, a missing or an unknown name, a number that is none. What is
/// read may still be illegal: verify it.
std::optional<CudaPlan> plan_of(std::string_view text);
std::optional<CudaSchedule> schedule_of(std::string_view text);
std::optional<Choice> choice_of(std::string_view text);

}  // namespace harrier::autotune
