// Made by Harrier for sm_80. Pattern:
//   visible q + (kv_len - q_len) - k <= int[0] && k - (q + (kv_len - q_len)) <= int[1]
//   score s * float[0]
//   softmax standard
//   counted false
//   table_slots 0
//   arrays none
// Shape: heads 16  kv_heads 4  head_dim 96  value_dim 96  dtype fp16  direction forward
// Plan: 128x64 in boxes of 64, 8 warps, 1 CTA a multiprocessor
#include "codegen/cuda/kernels/forward_sm80.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {

struct Mask : NoMask {
  static constexpr MaskKind kKind = MaskKind::kIntervals;
  static constexpr int kIntervals = 1;

  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {
    return {query - at.arguments.integers[0] + at.key_length - at.query_length, query + at.arguments.integers[1] + at.key_length - at.query_length + 1};
  }
};

using Score = ScaledScore;
using Sink = NoSink;

struct Config {
  static constexpr int kHeadDim = 96;  // columns of Q and K, padded with zeros
  static constexpr int kValueDim = 96;
  static constexpr int kTileQ = 128;  // queries of a row
  static constexpr int kTileK = 64;  // keys of a tile
  static constexpr int kBoxRows = 64;  // keys that are copied together
  static constexpr int kWarpRows = 16;  // queries of a warp
  static constexpr bool kBFloat16 = false;
  static constexpr KeySourceKind kKeySource = KeySourceKind::kClosedForm;
};

static_assert(SharedLayoutSm80<Config>::kBytes == 73856, "the plan and the kernel disagree on shared memory");
static_assert(forward_threads_sm80<Config>() == 256, "the plan and the kernel disagree on threads");

}  // namespace harrier

extern "C" __global__ void __launch_bounds__(256, 1) harrier_forward(
    const __grid_constant__ harrier::ForwardParams params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  harrier::forward_sm80<harrier::Config, harrier::Mask, harrier::Score, harrier::Sink>(params, memory);
}
