// The default schedule of a launch.
#pragma once

#include <cstdint>

#include "ir/cuda_schedule.h"
#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

struct ScheduleFacts {
  int64_t tile_k = 0;
  bool has_lists = false;  // which tiles a row, or column, has comes from lists; else in closed form
  int64_t ctas = 0;        // that run at a time
  int64_t l2_bytes = 0;
};

/// As many heads together as L2 holds for the whole batch what their rows, or columns, have in common, and of columns
/// some for every CTA; parts for four times the CTAs.
CudaSchedule choose_cuda_schedule(const Shape& shape, const Geometry& geometry, const ScheduleFacts& facts);

}  // namespace harrier
