// Made by Harrier for sm_80. Pattern:
//   visible table[0] > 0 && @segment[max(q_token, 0)] == @segment[k_token] && (q - k) % 3 == 0
//   score tanh(s * float[0]) * 30.0 - @slopes[h] * abs(q + (kv_len - q_len) - k)
//   softmax sink_logit(@sinks)
//   counted false
//   table_slots 1
//   arrays @segment: int32 rank 1; @slopes: float32 rank 1; @sinks: float32 rank 1;
// Shape: heads 16  kv_heads 4  head_dim 80  value_dim 80  dtype bf16  direction forward
// Plan: 64x64 in boxes of 16, 4 warps, 2 CTAs a multiprocessor, 4 blocks of queries a row
#include "codegen/cuda/kernels/forward_sm80.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {

struct Mask : NoMask {
  static constexpr MaskKind kKind = MaskKind::kPredicate;

  static __device__ __forceinline__ int visible(const Position& at, int query, int key, int count) {
    count = ~(count - 1) >> (query % 64 / 16) & 1;  // which blocks of the row's queries see the box
    const Int q = query, k = key;
    return Int((((Int(count) > Int(0)) && (load_int32(at, 0, maximum((at.query_token + q), Int(0))) == load_int32(at, 0, (at.key_token + k)))) && (((q - k) % Int(3)) == Int(0)))).value;
  }
};

struct Score {
  static constexpr bool kIdentity = false;
  static __device__ __forceinline__ float score(const Position& at, float s, int query, int key) {
    const Int q = query, k = key;
    return ((hyperbolic_tangent((s * at.arguments.floats[0])) * 30.0f) - (load_float32(at, 1, Int(at.head)) * to_float(absolute(((q + (Int(at.key_length) - Int(at.query_length))) - k)))));
  }
};

struct Sink {
  static constexpr bool kExists = true;
  static __device__ __forceinline__ float logit(const Position& at) { return load_float32(at, 2, Int(at.head)); }
};

struct Config {
  static constexpr int kHeadDim = 96;  // columns of Q and K, padded with zeros
  static constexpr int kValueDim = 96;
  static constexpr int kTileQ = 64;  // queries of a row
  static constexpr int kTileK = 64;  // keys of a tile
  static constexpr int kBoxRows = 16;  // keys that are copied together
  static constexpr int kWarpRows = 16;  // queries of a warp
  static constexpr bool kBFloat16 = true;
  static constexpr KeySourceKind kKeySource = KeySourceKind::kLists;
};

static_assert(SharedLayoutSm80<Config>::kBytes == 61592, "the plan and the kernel disagree on shared memory");
static_assert(forward_threads_sm80<Config>() == 128, "the plan and the kernel disagree on threads");

}  // namespace harrier

extern "C" __global__ void __launch_bounds__(128, 2) harrier_forward(
    const __grid_constant__ harrier::ForwardParams params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  harrier::forward_sm80<harrier::Config, harrier::Mask, harrier::Score, harrier::Sink>(params, memory);
}
