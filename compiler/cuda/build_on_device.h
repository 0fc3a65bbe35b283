// The list builder and the order of work, launched: codegen/cuda/emit_builder.h says how they work.
#pragma once

#include <optional>

#include "codegen/cuda/kernels/build_params.cuh"
#include "compiler/cuda/build_columns_on_device.h"
#include "compiler/cuda/cuda_code.h"

namespace harrier {

/// What the builder is told, and the memory that it writes to. Everything is known before the first launch, so building
/// again on the same inputs (lengths or tables that changed in place) allocates nothing.
struct DeviceBuild {
  ListParams lists{};
  OrderParams order{};
  bool has_lists = false;
  int64_t rows = 0;         // of one head
  int64_t list_heads = 1;   // heads that have lists of their own
  int64_t order_items = 0;  // at most
  int64_t zeros_bytes = 0;  // from the memory's start: what must be zero before the first kernel
  cuda::DeviceMemory memory;
  std::optional<ColumnBuild> columns = {};  // of a backward kernel
};

/// What decides the sizes.
struct BuildInputs {
  const CudaCode& code;
  const BoundPattern& pattern;
  const PatternArguments& arguments;
  const SequenceTable& sequences;
  const CudaSchedule& schedule;
  BlockTable table;         // kNone without one
  int64_t named_pairs = 0;  // (row block, key block) pairs that the table names, over its own heads and batch rows
  int64_t batches = 0;
  int64_t query_tokens = 0;  // of all sequences when packed, of one sequence when padded
  int64_t key_tokens = 0;    // likewise
  int64_t most_keys = 0;     // of a sequence
  bool packed = true;
};

/// Allocates. Throws InvalidInput for lists past 2^31 entries, DeviceError.
DeviceBuild plan_build(const BuildInputs& inputs);

/// Enqueues the build: no allocation, no synchronisation. Throws DeviceError.
void enqueue_build(const CudaCode& code, const DeviceBuild& build, cuda::Stream stream);

}  // namespace harrier
