// Where things lie in a CTA's shared memory where warps copy and multiply by themselves.
#pragma once

#include "codegen/cuda/kernels/ptx.cuh"
#include "codegen/cuda/kernels/row_work.cuh"

namespace harrier {

/// A tile of 16-bit values, row by row. The 16-byte chunks of a row are permuted inside groups of eight (four, where
/// the columns are no multiple of 64), so that a chunk of eight neighbouring rows lies in eight different groups of
/// banks and a matrix load has no conflicts.
template <int kColumns, int kRows>
struct SwizzledTile {
  static_assert(kColumns % 32 == 0, "head dims are padded to a multiple of 32 columns");
  static constexpr int kTileRows = kRows;
  static constexpr int kGroupChunks = kColumns % 64 == 0 ? 8 : 4;
  static constexpr int kGroupBytes = 16 * kGroupChunks;
  static constexpr int kRowBytes = 2 * kColumns;
  static constexpr int kGroups = kRowBytes / kGroupBytes;
  static constexpr int kBytes = kRows * kRowBytes;

  /// Where chunk `chunk` of a row's first group lies; the next group is kGroupBytes further.
  static __device__ __forceinline__ uint32 offset(int row, int chunk) {
    const int phase = kGroupChunks == 8 ? row & 7 : (row >> 1) & 3;
    return row * kRowBytes + (chunk ^ phase) * 16;
  }

  /// From the address of chunk 0 or 1 of a row to the one of 2 * `step` more: the columns 16 * step further.
  static __device__ __forceinline__ uint32 advance(uint32 address, int step) {
    const int chunk = 2 * step;
    return (address ^ (chunk % kGroupChunks * 16)) + chunk / kGroupChunks * kGroupBytes;
  }
};

template <class Config>
constexpr int forward_threads_sm80() {
  return 32 * Config::kTileQ / Config::kWarpRows;
}

template <class Config>
struct SharedLayoutSm80 {
  static constexpr int kBoxes = Config::kTileK / Config::kBoxRows;
  using QueryTile = SwizzledTile<Config::kHeadDim, Config::kTileQ>;
  using KeyTile = SwizzledTile<Config::kHeadDim, Config::kTileK>;
  using ValueTile = SwizzledTile<Config::kValueDim, Config::kTileK>;

  /// Buffers of key tiles: one is filled while the other is used.
  static constexpr int kStages = 2;
  /// Likewise of row descriptions and of drawn items.
  static constexpr int kRowSlots = 2;

  static constexpr uint32 kKeyOffset = QueryTile::kBytes;
  static constexpr uint32 kValueOffset = kKeyOffset + kStages * KeyTile::kBytes;
  static constexpr uint32 kBoxOffset = kValueOffset + kStages * ValueTile::kBytes;
  static constexpr uint32 kRowOffset = kBoxOffset + 4 * kStages * kBoxes;
  static constexpr uint32 kItemOffset = kRowOffset + kRowSlots * sizeof(RowWork);
  static constexpr uint32 kBytes = kItemOffset + 4 * kRowSlots;

  unsigned char* base;
  uint32 address;

  __device__ __forceinline__ explicit SharedLayoutSm80(unsigned char* shared)
      : base(shared), address(ptx::shared_address(shared)) {}

  __device__ __forceinline__ uint32 query() const { return address; }
  __device__ __forceinline__ uint32 key(uint32 stage) const { return address + kKeyOffset + stage * KeyTile::kBytes; }
  __device__ __forceinline__ uint32 value(uint32 stage) const {
    return address + kValueOffset + stage * ValueTile::kBytes;
  }
  /// The boxes of which the key tile in `stage` is made: entries as KeyLists describes them.
  __device__ __forceinline__ volatile int* boxes(uint32 stage) const {
    return reinterpret_cast<volatile int*>(base + kBoxOffset) + stage * kBoxes;
  }
  __device__ __forceinline__ volatile RowWork* row(uint32 slot) const {
    return reinterpret_cast<volatile RowWork*>(base + kRowOffset) + slot;
  }
  /// Index of an item in the order.
  __device__ __forceinline__ volatile int* item(uint32 slot) const {
    return reinterpret_cast<volatile int*>(base + kItemOffset) + slot;
  }
};

}  // namespace harrier
