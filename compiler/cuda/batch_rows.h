// How much work a batch is under a plan, counted and not run.
#pragma once

#include "autotune/cost_model.h"
#include "compiler/bind.h"
#include "ir/cuda_plan.h"
#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

/// A batch as it may come: lengths, and arrays that fit them, which must outlive it.
struct LengthDraw {
  Geometry geometry;
  Bindings bindings;
};

/// Rows and their key tiles under a plan, and of backward plans columns and their query tiles, by the same interval
/// arithmetic that classifies tiles on the host. Throws InvalidInput where arrays do not fit.
autotune::BatchRows batch_rows(const Workload& workload, const LengthDraw& draw, const CudaPlan& plan);

}  // namespace harrier
