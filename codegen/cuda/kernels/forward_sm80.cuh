// O = softmax(Q K^T) V over the keys that a pattern shows, for every GPU from sm_80 on: persistent CTAs whose warps
// copy, multiply and store by themselves.
#pragma once

#include "codegen/cuda/kernels/rows_sm80.cuh"

namespace harrier {

/// `memory` is the CTA's dynamic shared memory, 128-byte aligned, SharedLayoutSm80<Config>::kBytes of it.
template <class Config, class Mask, class Score, class Sink = NoSink>
__device__ __forceinline__ void forward_sm80(const ForwardParams& params, unsigned char* memory) {
  static_assert(Config::kWarpRows == 16 || Config::kWarpRows == 32, "a warp owns one or two blocks of 16 queries");
  static_assert(Config::kTileK % 16 == 0, "P V steps through the keys sixteen at a time");
  static_assert(Config::kTileK % Config::kBoxRows == 0, "a key tile is made of whole boxes");
  static_assert(Config::kBoxRows % 8 == 0, "masks look at eight keys at a time");

  const SharedLayoutSm80<Config> shared(memory);
  RowsSm80<Config, Mask, Score, Sink>(params, shared).run();
}

}  // namespace harrier
