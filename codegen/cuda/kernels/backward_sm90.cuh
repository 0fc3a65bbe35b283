// dK and dV of every key, and the sums that become dQ, for Hopper: persistent CTAs that take columns (key tiles), with
// a producer warpgroup, which brings tiles and adds up dQ through the bulk copy engine, and consumer warpgroups of 64
// keys each.
#pragma once

#include "codegen/cuda/kernels/backward_consumer_sm90.cuh"
#include "codegen/cuda/kernels/backward_divided_sm90.cuh"
#include "codegen/cuda/kernels/backward_producer_sm90.cuh"
#include "codegen/cuda/kernels/query_reducer_sm90.cuh"

namespace harrier {

template <class Config>
constexpr int backward_threads() {
  return kWarpgroupThreads * (Config::kConsumers + 1);
}

/// `memory` is the CTA's dynamic shared memory, 1024-byte aligned, ColumnLayout<Config>::kBytes of it.
/// BackwardParams::d_query_sums is zeros. With Config::kDeterministic, BackwardParams::turns is too, and columns lie in
/// the order that query_reducer_sm90.cuh asks for.
template <class Config, class Mask, class Score>
__device__ __forceinline__ void backward_columns(const BackwardParams& params, unsigned char* memory) {
  static_assert(!ColumnLayout<Config>::kDivided || (Config::kTileK == kWarpgroupRows && Config::kConsumers == 2),
                "each consumer warpgroup owns 64 keys, or two of them share 64");
  static_assert(Config::kBoxRows == Config::kTileK, "a key tile is one box");
  static_assert(Config::kConsumerRegisters * Config::kConsumers + Config::kProducerRegisters <=
                    65536 / (Config::kCtasPerSm * backward_threads<Config>()) / 8 * 8 * (Config::kConsumers + 1),
                "warpgroups may only share out the registers that the CTA was launched with");
  static_assert((ColumnLayout<Config>::kBytes + 1024) * Config::kCtasPerSm <= 233472,
                "the tiles exceed an SM's shared memory");

  static_assert(QueryShares<Config>::kSharers <= 3, "each share of dQ has a warp beside the one that brings tiles");

  const ColumnLayout<Config> shared(memory);
  const int lane = threadIdx.x & 31;
  const int warpgroup = ptx::broadcast(static_cast<int>(threadIdx.x) / kWarpgroupThreads, 0);
  const int warp = (threadIdx.x / 32) & 3;
  if (threadIdx.x == 0) shared.init_barriers();
  __syncthreads();

  if (warpgroup == 0) {
    ptx::shrink_registers<Config::kProducerRegisters>();
    if (warp == 0) {
      if (lane == 0) {
        ptx::prefetch_tensor_map(&params.query);
        ptx::prefetch_tensor_map(&params.key);
        ptx::prefetch_tensor_map(&params.value);
        ptx::prefetch_tensor_map(&params.d_output);
      }
      ColumnProducer<Config, Mask>(params, shared, lane).run();
    } else if constexpr (ColumnLayout<Config>::kSumsInShared) {
      if constexpr (Config::kDeterministic) {
        const int sharer = warp - 1;
        if (sharer < QueryShares<Config>::kSharers && lane == 0) OrderedReducer<Config>(params, shared, sharer).run();
      } else {
        if (warp == 1 && lane == 0) QueryReducer<Config>(params, shared).run();
      }
    }
  } else {
    ptx::grow_registers<Config::kConsumerRegisters>();
    const ConsumerThread thread{warpgroup - 1, warp, lane};
    if constexpr (ColumnLayout<Config>::kDivided) {
      DividedConsumer<Config, Mask, Score>(params, shared, thread).run();
    } else {
      ColumnConsumer<Config, Mask, Score>(params, shared, thread).run();
    }
  }
}

}  // namespace harrier
