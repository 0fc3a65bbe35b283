// Emits the source of the CUDA kernels of one backward pass: a few dozen lines over kernels/*.cuh, as emit_stub does
// for the forward pass.
//
// How they are launched, on one stream, after the lists and orders of rows and columns (emit_builder.h):
//  1. harrier_backward_stats: grid (tile places, heads), kBuildThreads threads.
//  2. harrier_backward_columns: as many CTAs as run at a time, backward_threads(plan) threads,
//     backward_shared_bytes(plan, shape) bytes.
//  3. sm_80's family: harrier_backward_rows, likewise. sm_90a: harrier_backward_queries, grid (tile places, heads,
//     row_queries(plan) / 64), 128 threads.
//  4. Where arrays are learned and wanted: harrier_backward_arrays, as harrier_backward_columns is launched, with
//     backward_arrays_threads(plan) and backward_arrays_bytes(plan, shape). Step 1 makes that of a sink's logit. All
//     are zero before.
//  5. Where columns or rows may be split: harrier_join_columns, harrier_join_rows: grid (split_capacity / 2, tile / 8),
//     kBuildThreads threads.
// Every entry but the last two takes BackwardParams alone; these take a pointer to split rows and one to their count
// too.
#pragma once

#include <string>

#include "ir/cuda_plan.h"
#include "ir/lowered.h"
#include "ir/workload.h"

namespace harrier {

inline constexpr const char* kCudaStatsName = "harrier_backward_stats";
inline constexpr const char* kCudaColumnsName = "harrier_backward_columns";
inline constexpr const char* kCudaRowsName = "harrier_backward_rows";
inline constexpr const char* kCudaQueriesName = "harrier_backward_queries";
inline constexpr const char* kCudaArraysName = "harrier_backward_arrays";
inline constexpr const char* kCudaJoinColumnsName = "harrier_join_columns";
inline constexpr const char* kCudaJoinRowsName = "harrier_join_rows";

/// Whether a score or the softmax reads float arrays, which have gradients.
bool learns_arrays(const LoweredPattern& lowered, const ScoreSlopes& slopes);

/// The same arguments give the same text. Throws InvalidInput as emit_cuda_stub does.
std::string emit_cuda_backward_stub(const LoweredPattern& lowered, const ScoreSlopes& slopes, const Shape& shape,
                                    const CudaPlan& plan);

}  // namespace harrier
