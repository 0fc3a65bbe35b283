// Where things lie in a CTA's shared memory, and the barriers that say when they are there.
#pragma once

#include "codegen/cuda/kernels/panels.cuh"
#include "codegen/cuda/kernels/ptx.cuh"
#include "codegen/cuda/kernels/row_work.cuh"

namespace harrier {

/// One of several buffers that are filled and emptied in turn.
template <int kStages>
struct StageCursor {
  uint32 stage = 0;
  uint32 parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  /// The stage before this one.
  __device__ __forceinline__ uint32 before() const { return stage == 0 ? kStages - 1 : stage - 1; }
};

template <class Config>
struct SharedLayout {
  using QueryPanels = wgmma::Panels<Config::kHeadDim, Config::kTileQ>;
  using KeyPanels = wgmma::Panels<Config::kHeadDim, Config::kTileK>;
  using ValuePanels = wgmma::Panels<Config::kValueDim, Config::kTileK>;
  using OutputPanels = wgmma::Panels<Config::kValueDim, Config::kTileQ>;

  static constexpr int kBoxes = Config::kTileK / Config::kBoxRows;
  static constexpr int kRowSlots = 3;
  static constexpr uint32 kQueryStageBytes = larger(QueryPanels::kBytes, OutputPanels::kBytes);

  static constexpr uint32 kKeyOffset = Config::kQueryStages * kQueryStageBytes;
  static constexpr uint32 kValueOffset = kKeyOffset + Config::kStages * KeyPanels::kBytes;
  static constexpr uint32 kBarrierOffset = kValueOffset + Config::kStages * ValuePanels::kBytes;
  static constexpr uint32 kBarriers = 2 * Config::kQueryStages + 4 * Config::kStages + 2 * kRowSlots;
  static constexpr uint32 kBoxOffset = kBarrierOffset + 8 * kBarriers;
  static constexpr uint32 kRowOffset = kBoxOffset + 4 * Config::kStages * kBoxes;
  static constexpr uint32 kBytes = kRowOffset + kRowSlots * sizeof(RowWork);

  static constexpr uint32 kKeyBarrier = 2 * Config::kQueryStages;
  static constexpr uint32 kValueBarrier = kKeyBarrier + 2 * Config::kStages;
  static constexpr uint32 kRowBarrier = kValueBarrier + 2 * Config::kStages;

  unsigned char* base;
  uint32 address;

  __device__ __forceinline__ explicit SharedLayout(unsigned char* shared)
      : base(shared), address(ptx::shared_address(shared)) {}

  // A query tile; a warpgroup's 64 rows of it hold its output before that is stored.
  __device__ __forceinline__ uint32 query(uint32 stage) const { return address + stage * kQueryStageBytes; }
  __device__ __forceinline__ uint32 key(uint32 stage) const { return address + kKeyOffset + stage * KeyPanels::kBytes; }
  __device__ __forceinline__ uint32 value(uint32 stage) const {
    return address + kValueOffset + stage * ValuePanels::kBytes;
  }
  /// The boxes of which the key tile in `stage` is made: entries as KeyLists describes them.
  __device__ __forceinline__ volatile int* boxes(uint32 stage) const {
    return reinterpret_cast<volatile int*>(base + kBoxOffset) + stage * kBoxes;
  }
  __device__ __forceinline__ volatile RowWork* row(uint32 slot) const {
    return reinterpret_cast<volatile RowWork*>(base + kRowOffset) + slot;
  }

  __device__ __forceinline__ uint32 barrier(uint32 index) const { return address + kBarrierOffset + 8 * index; }
  __device__ __forceinline__ uint32 query_full(uint32 stage) const { return barrier(stage); }
  __device__ __forceinline__ uint32 query_empty(uint32 stage) const { return barrier(Config::kQueryStages + stage); }
  __device__ __forceinline__ uint32 key_full(uint32 stage) const { return barrier(kKeyBarrier + stage); }
  __device__ __forceinline__ uint32 key_empty(uint32 stage) const {
    return barrier(kKeyBarrier + Config::kStages + stage);
  }
  __device__ __forceinline__ uint32 value_full(uint32 stage) const { return barrier(kValueBarrier + stage); }
  __device__ __forceinline__ uint32 value_empty(uint32 stage) const {
    return barrier(kValueBarrier + Config::kStages + stage);
  }
  __device__ __forceinline__ uint32 row_full(uint32 slot) const { return barrier(kRowBarrier + slot); }
  __device__ __forceinline__ uint32 row_empty(uint32 slot) const { return barrier(kRowBarrier + kRowSlots + slot); }

  /// By one thread. Buffers that ordinary loads read too (boxes, rows) are released by every consumer warp: one leader
  /// could release them while another warp still reads.
  __device__ __forceinline__ void init_barriers() const {
    constexpr int kWarps = 4 * Config::kConsumers;
    for (int stage = 0; stage < Config::kQueryStages; ++stage) {
      ptx::barrier_init(query_full(stage), 1);
      ptx::barrier_init(query_empty(stage), Config::kConsumers);
    }
    for (int stage = 0; stage < Config::kStages; ++stage) {
      ptx::barrier_init(key_full(stage), 1);
      ptx::barrier_init(key_empty(stage), kWarps);
      ptx::barrier_init(value_full(stage), 1);
      ptx::barrier_init(value_empty(stage), Config::kConsumers);
    }
    for (int slot = 0; slot < kRowSlots; ++slot) {
      ptx::barrier_init(row_full(slot), 1);
      ptx::barrier_init(row_empty(slot), kWarps);
    }
    ptx::barrier_init_fence();
  }
};

}  // namespace harrier
