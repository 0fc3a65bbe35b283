// Tensors of a launch: what they must look like, and as kernels take them.
#pragma once

#include "codegen/cuda/kernels/params.cuh"
#include "compiler/cuda/cuda_bound.h"
#include "compiler/harrier_cuda.h"

namespace harrier {

/// What a tensor must look like, and the tensor.
struct NamedTensor {
  const char* name;
  const CudaTensor& tensor;
  int64_t heads;
  int64_t columns;
  int64_t tokens;  // of one batch row
};

/// Throws InvalidInput for strides and addresses that kernels cannot read, and for memory of the host or another GPU.
void check_tensor(const CudaCode& code, const NamedTensor& named);

TensorRows rows_of(const NamedTensor& named);

/// A ragged map for boxes of `box_rows` tokens.
TensorMap map_of(const CudaCode& code, const NamedTensor& named, int64_t batches, int64_t box_rows);

/// Throws InvalidInput for a binding that another kernel made.
void check_binding(const CudaBinding& binding, const CudaCode& code);

/// A workspace begins with so many zeros, where counters lie.
inline constexpr int64_t kCounterBytes = 256;

/// Counters, and `bytes` behind them.
cuda::DeviceMemory make_workspace(const cuda::DeviceHandle& device, int64_t bytes);

}  // namespace harrier
