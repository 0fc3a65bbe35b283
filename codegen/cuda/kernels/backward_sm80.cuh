// Gradients for every GPU from sm_80 on, in two kernels: dK and dV by columns, dQ by rows. S and dP
// are made twice, and nothing is added to from two places: the same input gives the same bits, but for learned arrays.
#pragma once

#include "codegen/cuda/kernels/backward_rows_sm80.cuh"
#include "codegen/cuda/kernels/columns_sm80.cuh"

namespace harrier {

template <class Config>
constexpr bool is_backward_config_sm80() {
  static_assert(Config::kTileQ % 64 == 0, "columns work on 32 queries at a time, rows are multiples of 64");
  static_assert(Config::kTileK % 32 == 0, "a warp owns 16 keys, and dQ = dS K steps through them sixteen at a time");
  static_assert(Config::kBoxRows == Config::kTileK, "a key tile of the backward pass is one box");
  static_assert(Config::kStages == 1 || Config::kStages == 2, "tiles are brought one ahead, or none");
  return true;
}

/// `memory` is the CTA's dynamic shared memory, 128-byte aligned, BackwardLayoutSm80<Config>::kBytes of it. With
/// `Learned`, the gradients of these arrays instead of dK and dV.
template <class Config, class Mask, class Score, class Learned = LearnedArrays<>>
__device__ __forceinline__ void backward_columns_sm80(const BackwardParams& params, unsigned char* memory) {
  static_assert(is_backward_config_sm80<Config>());
  const ColumnLayoutSm80<Config> shared(memory);
  ColumnsSm80<Config, Mask, Score, Learned>(params, shared).run();
}

/// The same for rows.
template <class Config, class Mask, class Score>
__device__ __forceinline__ void backward_rows_sm80(const BackwardParams& params, unsigned char* memory) {
  static_assert(is_backward_config_sm80<Config>());
  const RowLayoutSm80<Config> shared(memory);
  BackwardRowsSm80<Config, Mask, Score>(params, shared).run();
}

}  // namespace harrier
