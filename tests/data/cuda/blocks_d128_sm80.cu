// Made by Harrier for sm_80. Pattern:
//   visible table[0]
//   score s * float[0]
//   softmax standard
//   counted false
//   table_slots 1
//   arrays none
// Shape: heads 16  kv_heads 4  head_dim 128  value_dim 128  dtype bf16  direction forward
// Plan: 128x64 in boxes of 64, 8 warps, 1 CTA a multiprocessor
#include "codegen/cuda/kernels/forward_sm80.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {

struct Mask : NoMask {
};

using Score = ScaledScore;
using Sink = NoSink;

struct Config {
  static constexpr int kHeadDim = 128;  // columns of Q and K, padded with zeros
  static constexpr int kValueDim = 128;
  static constexpr int kTileQ = 128;  // queries of a row
  static constexpr int kTileK = 64;  // keys of a tile
  static constexpr int kBoxRows = 64;  // keys that are copied together
  static constexpr int kWarpRows = 16;  // queries of a warp
  static constexpr bool kBFloat16 = true;
  static constexpr KeySourceKind kKeySource = KeySourceKind::kLists;
};

static_assert(SharedLayoutSm80<Config>::kBytes == 98432, "the plan and the kernel disagree on shared memory");
static_assert(forward_threads_sm80<Config>() == 256, "the plan and the kernel disagree on threads");

}  // namespace harrier

extern "C" __global__ void __launch_bounds__(256, 1) harrier_forward(
    const __grid_constant__ harrier::ForwardParams params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  harrier::forward_sm80<harrier::Config, harrier::Mask, harrier::Score, harrier::Sink>(params, memory);
}
