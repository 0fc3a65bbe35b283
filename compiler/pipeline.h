// The two pipelines: what happens when a workload is compiled, and what happens when a kernel is launched on real
// lengths and arrays.
#pragma once

#include <vector>

#include "compiler/bind.h"
#include "compiler/pass_list.h"
#include "compiler/passes/classify_tiles.h"
#include "compiler/passes/schedule_rows.h"
#include "ir/lowered.h"
#include "ir/plan.h"
#include "ir/workload.h"

namespace harrier {

/// State of the compile pipeline.
struct Compilation {
  Workload workload;                     // verified; simplified by the first pass
  std::vector<std::string> array_names;  // of the pattern as written: simplifying may drop some
  CpuTarget target;
  CpuPlan plan;
  LoweredPattern lowered;
  ScoreSlopes slopes;  // of a backward kernel
};

/// simplify, choose_plan, lower_pattern, differentiate
const std::vector<Pass<Compilation>>& compile_passes();

/// State of the launch pipeline.
struct LaunchState {
  const Compilation* compilation;
  const Geometry* geometry;
  const Bindings* bindings;
  BoundPattern bound;
  TileMap tiles;
  std::vector<ScheduledRow> order;
};

/// bind, classify_tiles, schedule_rows
const std::vector<Pass<LaunchState>>& launch_passes();

/// Names of all passes, in order and with those of CUDA kernels (cuda/cuda_pipeline.h) last, for --dump-after.
std::vector<std::string> pass_names();

}  // namespace harrier
