// Made by Harrier for sm_90a. Pattern:
//   visible table[0]
//   score s * float[0]
//   softmax standard
//   counted false
//   table_slots 1
//   arrays none
// Shape: heads 16  kv_heads 4  head_dim 128  value_dim 128  dtype bf16  direction forward
// Plan: 128x128 in boxes of 128, 2 consumers, 2+2 stages, ping-pong, 232/40 registers, 1 CTA a multiprocessor
#include "codegen/cuda/kernels/forward_sm90.cuh"
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
  static constexpr int kTileK = 128;  // keys of a tile
  static constexpr int kBoxRows = 128;  // keys that are copied together
  static constexpr int kConsumers = 2;  // warpgroups
  static constexpr int kStages = 2;  // buffers of K, and of V
  static constexpr int kQueryStages = 2;
  static constexpr int kConsumerRegisters = 232;  // of a thread
  static constexpr int kProducerRegisters = 40;
  static constexpr int kCtasPerSm = 1;
  static constexpr bool kPingPong = true;  // warpgroups issue their products in turn
  static constexpr bool kBFloat16 = true;
  static constexpr KeySourceKind kKeySource = KeySourceKind::kLists;
};

static_assert(SharedLayout<Config>::kBytes == 196928, "the plan and the kernel disagree on shared memory");
static_assert(forward_threads<Config>() == 384, "the plan and the kernel disagree on threads");

}  // namespace harrier

extern "C" __global__ void __launch_bounds__(384, 1) harrier_forward(
    const __grid_constant__ harrier::ForwardParams params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  harrier::forward_sm90<harrier::Config, harrier::Mask, harrier::Score, harrier::Sink>(params, memory);
}
