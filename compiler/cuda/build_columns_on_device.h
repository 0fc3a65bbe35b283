// The columns of a backward launch on the device: their lists of query tiles and their order.
#pragma once

#include "codegen/cuda/kernels/build_params.cuh"
#include "compiler/cuda/cuda_code.h"

namespace harrier {

/// What the builder is told of columns, and the memory that it writes to.
struct ColumnBuild {
  TransposeParams lists{};
  ColumnOrderParams order{};
  bool has_lists = false;
  int64_t columns = 0;     // of one head
  int64_t list_heads = 1;  // query heads that have lists of their own
  int64_t order_items = 0;
  int64_t zeros_bytes = 0;
  cuda::DeviceMemory memory;
};

struct ColumnInputs {
  const CudaCode& code;
  const OrderParams& rows;     // as the rows of the same launch are built
  int64_t entry_capacity = 0;  // of their lists
  bool has_lists = false;
  int64_t key_tokens = 0;  // of all sequences when packed, of one sequence when padded
};

/// Allocates. Throws DeviceError.
ColumnBuild plan_columns(const ColumnInputs& inputs);

/// Enqueues what builds columns, after the rows' lists: no allocation, no synchronisation. Throws DeviceError.
void enqueue_columns(const CudaCode& code, const ColumnBuild& build, cuda::Stream stream);

}  // namespace harrier
