// The default plan of a workload on a GPU.
#pragma once

#include <cstdint>

#include "ir/cuda_plan.h"
#include "ir/workload.h"

namespace harrier {

/// About how many of `length` keys a query sees on average: what tells a short row from a long one. Arrays are not
/// looked into; masks that depend on them count as a part of the keys that is typical of their kind.
int64_t expected_keys_per_query(const Mask& mask, int64_t length);

/// Tiles divide every block size of the mask. Throws InvalidInput where no kernel does.
CudaPlan choose_cuda_plan(const Workload& workload, CudaFamily family);

}  // namespace harrier
