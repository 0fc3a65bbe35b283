// O = softmax(Q K^T) V over the keys that a pattern shows, for Hopper: persistent CTAs of one producer warpgroup, which
// brings tiles through the bulk copy engine, and one to three consumer warpgroups of 64 queries each.
#pragma once

#include "codegen/cuda/kernels/consumer_sm90.cuh"
#include "codegen/cuda/kernels/producer_sm90.cuh"

namespace harrier {

template <class Config>
constexpr int forward_threads() {
  return kWarpgroupThreads * (Config::kConsumers + 1);
}

/// `shared` is the CTA's dynamic shared memory, 1024-byte aligned, SharedLayout<Config>::kBytes of it.
template <class Config, class Mask, class Score, class Sink = NoSink>
__device__ __forceinline__ void forward_sm90(const ForwardParams& params, unsigned char* memory) {
  static_assert(Config::kTileQ == kWarpgroupRows * Config::kConsumers, "each consumer warpgroup owns 64 queries");
  static_assert(Config::kTileK % 16 == 0, "P V steps through the keys sixteen at a time");
  static_assert(Config::kTileK % Config::kBoxRows == 0, "a key tile is made of whole boxes");
  static_assert(Config::kBoxRows % 8 == 0, "boxes keep the phase of the swizzle");
  static_assert(Config::kStages >= 2, "V of a tile is loaded after K of the next");
  static_assert(Config::kConsumerRegisters * Config::kConsumers + Config::kProducerRegisters <=
                    65536 / (Config::kCtasPerSm * forward_threads<Config>()) / 8 * 8 * (Config::kConsumers + 1),
                "warpgroups may only share out the registers that the CTA was launched with");
  static_assert(SharedLayout<Config>::kBytes * Config::kCtasPerSm <= 233472 - 1024 * Config::kCtasPerSm,
                "the tiles exceed an SM's shared memory");

  const SharedLayout<Config> shared(memory);
  const int lane = threadIdx.x & 31;
  const int warpgroup = ptx::broadcast(static_cast<int>(threadIdx.x) / kWarpgroupThreads, 0);
  const int warp = (threadIdx.x / 32) & 3;
  if (threadIdx.x == 0) shared.init_barriers();
  __syncthreads();

  if (warpgroup == 0) {
    ptx::shrink_registers<Config::kProducerRegisters>();
    if (warp != 0) return;
    if (lane == 0) {
      ptx::prefetch_tensor_map(&params.query);
      ptx::prefetch_tensor_map(&params.key);
      ptx::prefetch_tensor_map(&params.value);
      ptx::prefetch_tensor_map(&params.output);
    }
    Producer<Config, Mask>(params, shared, lane).run();
  } else {
    ptx::grow_registers<Config::kConsumerRegisters>();
    Consumer<Config, Mask, Score, Sink>(params, shared, ConsumerThread{warpgroup - 1, warp, lane}).run();
  }
}

}  // namespace harrier
