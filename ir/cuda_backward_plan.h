// Plans of backward kernels: what the numbers of a CudaPlan mean there, and what fits.
//
// A row is 64 queries for each of `consumers`, a column `tile_k` keys, which is one box. `stages` are the buffers of
// the tiles that a row or column walks: Q and dO of a column, K and V of a row. On sm_90a each 64 keys have a
// warpgroup, or two where a CTA of 64 keys has a multiprocessor to itself: one warpgroup alone would leave it idle
// between its products, and could not hold dK and dV of wide heads. Of sm_80's family each 16 keys, and each 16
// queries, have a warp.
#pragma once

#include <cstdint>
#include <optional>

#include "ir/cuda_plan.h"

namespace harrier {

/// Warpgroups that multiply, on sm_90a.
int key_warpgroups(const CudaPlan& plan);

/// Whether columns add to dQ one after the other, in an order that is always the same: on sm_90a, where plans are
/// deterministic. Without it they add as they come, and last bits of dQ vary from run to run. Of sm_80's family rows
/// sum up dQ by themselves.
bool adds_in_turn(const CudaPlan& plan);

/// Counters of turns that a query tile of a head has then.
int64_t turns_of_tile(const CudaPlan& plan);

/// Threads of a CTA of the kernels that walk columns and rows.
int backward_threads(const CudaPlan& plan);

/// Dynamic shared memory of these CTAs in bytes, as the kernels lay it out.
int64_t backward_shared_bytes(const CudaPlan& plan, const Shape& shape);

/// The same, and the threads, of the kernel that makes gradients of learned arrays.
int64_t backward_arrays_bytes(const CudaPlan& plan, const Shape& shape);
int backward_arrays_threads(const CudaPlan& plan);

/// Throws InvalidInput when the plan does not fit the GPU that its family is named after.
void verify_backward(const CudaPlan& plan, const Shape& shape);

/// As the defaults of cuda_plan.h: chosen by what fits and compiles without spills.
CudaPlan default_sm90_backward_plan(const Shape& shape, int64_t block_rows, int64_t keys_per_query);
CudaPlan default_sm80_backward_plan(const Shape& shape, int64_t block_rows, int64_t keys_per_query);

/// The nearest plan that leaves each thread more registers, as roomier_plan: fewer queries a row, then fewer CTAs a
/// multiprocessor. Nothing when there is none.
std::optional<CudaPlan> roomier_backward_plan(const CudaPlan& plan);

}  // namespace harrier
