// Made by Harrier for sm_90a. Pattern:
//   visible table[0]
//   score s * float[0]
//   softmax standard
//   counted true
//   table_slots 1
//   arrays none
// Shape: heads 16  kv_heads 4  head_dim 64  value_dim 64  dtype bf16  direction forward
// Plan: 64x64 in boxes of 64, 1 consumers, 3+2 stages, no ping-pong, 120/40 registers, 3 CTAs a multiprocessor
#include "codegen/cuda/kernels/forward_sm90.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {

struct Mask : NoMask {
  static constexpr bool kCounted = true;
  static constexpr bool kAdditivePadding = true;
};

using Score = ScaledScore;
using Sink = NoSink;

struct Config {
  static constexpr int kHeadDim = 64;  // columns of Q and K, padded with zeros
  static constexpr int kValueDim = 64;
  static constexpr int kTileQ = 64;  // queries of a row
  static constexpr int kTileK = 64;  // keys of a tile
  static constexpr int kBoxRows = 64;  // keys that are copied together
  static constexpr int kConsumers = 1;  // warpgroups
  static constexpr int kStages = 3;  // buffers of K, and of V
  static constexpr int kQueryStages = 2;
  static constexpr int kConsumerRegisters = 120;  // of a thread
  static constexpr int kProducerRegisters = 40;
  static constexpr int kCtasPerSm = 3;
  static constexpr bool kPingPong = false;  // warpgroups issue their products in turn
  static constexpr bool kBFloat16 = true;
  static constexpr KeySourceKind kKeySource = KeySourceKind::kLists;
};

static_assert(SharedLayout<Config>::kBytes == 65892, "the plan and the kernel disagree on shared memory");
static_assert(forward_threads<Config>() == 256, "the plan and the kernel disagree on threads");

}  // namespace harrier

extern "C" __global__ void __launch_bounds__(256, 3) harrier_forward(
    const __grid_constant__ harrier::ForwardParams params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  harrier::forward_sm90<harrier::Config, harrier::Mask, harrier::Score, harrier::Sink>(params, memory);
}
