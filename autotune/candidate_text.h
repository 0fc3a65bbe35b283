// Plans and schedules as text: what databases keep, and read again strictly.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ir/cuda_plan.h"
#include "ir/cuda_schedule.h"

namespace harrier::autotune {

/// "family=0 consumers=2 tile_k=128 ... heads_per_group=8 split_tiles=16 split_capacity=528": every number, in one
/// order and one spelling.
std::string to_text(const CudaPlan& plan);
std::string to_text(const CudaSchedule& schedule);

/// Nothing for what to_text did not write: another order, a missing or an unknown name, a number that is none. What is
/// read may still be illegal: verify it.
std::optional<CudaPlan> plan_of(std::string_view text);
std::optional<CudaSchedule> schedule_of(std::string_view text);

}  // namespace harrier::autotune
