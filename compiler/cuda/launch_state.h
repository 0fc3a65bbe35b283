// What a CudaLaunch holds: kernels with their parameters, in the order of the stream.
#pragma once

#include <array>
#include <variant>
#include <vector>

#include "codegen/cuda/kernels/backward_params.cuh"
#include "compiler/cuda/cuda_bound.h"
#include "compiler/harrier_cuda.h"

namespace harrier {

/// Where the rows (or columns) that were split are found.
struct SplitList {
  const SplitRow* rows = nullptr;
  const int* count = nullptr;

  /// The parameters of a kernel that joins parts, the addresses of the two above last.
  std::array<void*, 3> behind(void* params) { return {params, static_cast<void*>(&rows), static_cast<void*>(&count)}; }
};

struct CudaLaunchState {
  /// One kernel. `parameters` are addresses inside the state, which does not move.
  struct Step {
    cuda::Function function = nullptr;
    cuda::LaunchShape shape;
    std::array<void*, 3> parameters{};
  };

  /// Bytes that are zero when the kernels start.
  struct Zeros {
    cuda::DevicePointer data = 0;
    size_t bytes = 0;
  };

  CudaBinding bound;
  cuda::DeviceMemory workspace;  // counters, then what kernels hand to each other
  std::variant<ForwardParams, BackwardParams> params;
  SplitList split_rows;
  SplitList split_columns;
  std::vector<Zeros> zeros;
  std::vector<Step> steps;
  int grid = 0;  // CTAs that take rows, or columns, from their order
};

}  // namespace harrier
