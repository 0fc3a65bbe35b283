// The plans that are worth trying for a workload.
#pragma once

#include <vector>

#include "ir/cuda_plan.h"
#include "ir/workload.h"

namespace harrier {

/// Plans of the family and direction that differ in queries of a row, keys of a tile, buffers and CTAs a
/// multiprocessor, each once and each within the limits; the default first. Rows fit the mask's blocks as the default's
/// do, but for those plans under which neighbouring blocks of queries share key tiles.
std::vector<CudaPlan> plan_space(const Workload& workload, CudaFamily family);

}  // namespace harrier
