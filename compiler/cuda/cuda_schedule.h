// The default schedule of a launch.
#pragma once

#include <cstdint>

#include "ir/cuda_schedule.h"
#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

/// As many heads together as L2 holds K and V of the whole batch for; parts for four times the CTAs that run at a time.
CudaSchedule choose_cuda_schedule(const Shape& shape, const Geometry& geometry, int64_t ctas, int64_t l2_bytes);

}  // namespace harrier
