// Made by Harrier for sm_90a. Pattern:
//   visible k - (q + (kv_len - q_len)) <= int[0]
//   score s * float[0]
//   softmax standard
//   counted false
//   table_slots 0
//   arrays none
// Shape: heads 16  kv_heads 4  head_dim 64  value_dim 64  dtype bf16  direction forward
// Plan: 192x128 in boxes of 128, 3 consumers, 3+2 stages, ping-pong, 160/32 registers, 1 CTA a multiprocessor
#include "codegen/cuda/kernels/forward_sm90.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {

struct Mask : NoMask {
  static constexpr MaskKind kKind = MaskKind::kIntervals;
  static constexpr int kIntervals = 1;

  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {
    return {0, query + at.arguments.integers[0] + at.key_length - at.query_length + 1};
  }
};

using Score = ScaledScore;
using Sink = NoSink;

struct Config {
  static constexpr int kHeadDim = 64;  // columns of Q and K, padded with zeros
  static constexpr int kValueDim = 64;
  static constexpr int kTileQ = 192;  // queries of a row
  static constexpr int kTileK = 128;  // keys of a tile
  static constexpr int kBoxRows = 128;  // keys that are copied together
  static constexpr int kConsumers = 3;  // warpgroups
  static constexpr int kStages = 3;  // buffers of K, and of V
  static constexpr int kQueryStages = 2;
  static constexpr int kConsumerRegisters = 160;  // of a thread
  static constexpr int kProducerRegisters = 32;
  static constexpr int kCtasPerSm = 1;
  static constexpr bool kPingPong = true;  // warpgroups issue their products in turn
  static constexpr bool kBFloat16 = true;
  static constexpr KeySourceKind kKeySource = KeySourceKind::kClosedForm;
};

static_assert(SharedLayout<Config>::kBytes == 147812, "the plan and the kernel disagree on shared memory");
static_assert(forward_threads<Config>() == 512, "the plan and the kernel disagree on threads");

}  // namespace harrier

extern "C" __global__ void __launch_bounds__(512, 1) harrier_forward(
    const __grid_constant__ harrier::ForwardParams params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  harrier::forward_sm90<harrier::Config, harrier::Mask, harrier::Score, harrier::Sink>(params, memory);
}
