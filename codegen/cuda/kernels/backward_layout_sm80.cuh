// Where things lie in a CTA's shared memory in the backward kernels whose warps copy and multiply by themselves.
#pragma once

#include "codegen/cuda/kernels/backward_params.cuh"
#include "codegen/cuda/kernels/shared_layout_sm80.cuh"

namespace harrier {

/// Threads of both kernels: a warp for each 16 keys of a column, or 16 queries of a row.
template <class Config>
constexpr int backward_threads_sm80() {
  return 2 * larger(Config::kTileK, Config::kTileQ);
}

/// A column keeps K and V and brings Q and dO tile by tile, through kStages buffers; a row keeps Q and dO and brings K
/// and V.
template <class Config>
struct BackwardLayoutSm80 {
  using QueryTile = SwizzledTile<Config::kHeadDim, Config::kTileQ>;
  using GradientTile = SwizzledTile<Config::kValueDim, Config::kTileQ>;  // of dO
  using KeyTile = SwizzledTile<Config::kHeadDim, Config::kTileK>;
  using ValueTile = SwizzledTile<Config::kValueDim, Config::kTileK>;

  static constexpr uint32 kQueryBytes = QueryTile::kBytes + GradientTile::kBytes;
  static constexpr uint32 kKeyBytes = KeyTile::kBytes + ValueTile::kBytes;
  static constexpr uint32 kColumnBytes = kKeyBytes + Config::kStages * (kQueryBytes + 8 * Config::kTileQ);
  static constexpr uint32 kRowBytes = kQueryBytes + Config::kStages * kKeyBytes + 4 * Config::kStages;
  static constexpr uint32 kItemOffset = kColumnBytes > kRowBytes ? kColumnBytes : kRowBytes;
  static constexpr uint32 kBytes = kItemOffset + 16;

  unsigned char* base;
  uint32 address;

  __device__ __forceinline__ explicit BackwardLayoutSm80(unsigned char* shared)
      : base(shared), address(ptx::shared_address(shared)) {}

  /// Index of an item in the order.
  __device__ __forceinline__ volatile int* item() const { return reinterpret_cast<volatile int*>(base + kItemOffset); }
};

/// What lies where while a column is worked on.
template <class Config>
struct ColumnLayoutSm80 : BackwardLayoutSm80<Config> {
  using Base = BackwardLayoutSm80<Config>;
  using Base::Base;
  __device__ __forceinline__ uint32 key() const { return this->address; }
  __device__ __forceinline__ uint32 value() const { return this->address + Base::KeyTile::kBytes; }
  __device__ __forceinline__ uint32 query(uint32 stage) const {
    return this->address + Base::kKeyBytes + stage * Base::kQueryBytes;
  }
  __device__ __forceinline__ uint32 d_output(uint32 stage) const { return query(stage) + Base::QueryTile::kBytes; }
  /// log2_lse of the queries, then their delta.
  __device__ __forceinline__ volatile float* stats(uint32 stage) const {
    return reinterpret_cast<volatile float*>(this->base + Base::kKeyBytes + Config::kStages * Base::kQueryBytes) +
           stage * 2 * Config::kTileQ;
  }
};

/// What lies where while a row is worked on.
template <class Config>
struct RowLayoutSm80 : BackwardLayoutSm80<Config> {
  using Base = BackwardLayoutSm80<Config>;
  using Base::Base;
  __device__ __forceinline__ uint32 query() const { return this->address; }
  __device__ __forceinline__ uint32 d_output() const { return this->address + Base::QueryTile::kBytes; }
  __device__ __forceinline__ uint32 key(uint32 stage) const {
    return this->address + Base::kQueryBytes + stage * Base::kKeyBytes;
  }
  __device__ __forceinline__ uint32 value(uint32 stage) const { return key(stage) + Base::KeyTile::kBytes; }
  /// The box of which the key tile in `stage` is made: an entry as KeyLists describes it.
  __device__ __forceinline__ volatile int* boxes(uint32 stage) const {
    return reinterpret_cast<volatile int*>(this->base + Base::kQueryBytes + Config::kStages * Base::kKeyBytes) + stage;
  }
};

/// Item `index` of an order is taken by all threads of a CTA: the first by its number, the next ones by drawing.
/// Returns false when none is left; then the counter is as it was once the last CTA came here.
template <class Layout>
__device__ __forceinline__ bool take_item(const WorkOrder& order, const Layout& layout, bool first, WorkItem& item) {
  __syncthreads();  // everybody is done with the item before, and with what it left in shared memory
  if (threadIdx.x == 0) {
    *layout.item() = static_cast<int>(first ? blockIdx.x : atomicAdd(order.counter, 1) + gridDim.x);
  }
  __syncthreads();
  const int index = *layout.item();
  if (index < *order.count) {
    item = order.items[index];
    return true;
  }
  if (threadIdx.x == 0 && atomicAdd(order.counter + 1, 1) == static_cast<int>(gridDim.x) - 1) {
    order.counter[0] = 0;
    order.counter[1] = 0;
  }
  return false;
}

}  // namespace harrier
