// Batches to tune for: lengths drawn from the workload's distribution, and arrays that fit them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/workload_file.h"
#include "compiler/cuda/plan_costs.h"

namespace harrier {

/// Owns the arrays that `draws` point at; moving it keeps them valid.
struct DrawnBatches {
  std::vector<NamedArrays> arrays;
  std::vector<LengthDraw> draws;
  std::vector<std::string> notes;  // about arrays that were drawn too
};

/// `count` batches, or one where all are alike. Arrays that are not bound are drawn, those that are must fit every
/// batch.
DrawnBatches draw_batches(const Workload& workload, const std::vector<BindOption>& bindings, int64_t count,
                          uint64_t seed);

}  // namespace harrier
