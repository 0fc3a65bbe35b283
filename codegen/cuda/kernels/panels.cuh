// Tiles in shared memory as the tensor maps write them and warpgroup products read them.
//
// A tile is made of panels of kPanelColumns columns (64, or 32 where the head dim is no multiple of 64); a panel's rows
// are 2 * kPanelColumns bytes apart and swizzled over that many bytes.
#pragma once

#include "codegen/cuda/kernels/types.cuh"

namespace harrier::wgmma {

/// The swizzled panels of one tile in shared memory, `kRows` rows of 16-bit values.
template <int kColumns, int kRows>
struct Panels {
  static_assert(kColumns % 32 == 0, "head dims are padded to a multiple of 32 columns");
  static constexpr int kPanelColumns = kColumns % 64 == 0 ? 64 : 32;
  static constexpr int kCount = kColumns / kPanelColumns;
  static constexpr int kRowBytes = 2 * kPanelColumns;
  static constexpr int kPanelBytes = kRows * kRowBytes;
  static constexpr int kBytes = kCount * kPanelBytes;
  static_assert(kPanelBytes % 1024 == 0, "panels start where the swizzle pattern starts");

  static constexpr uint64 kSwizzleMode = kPanelColumns == 64 ? 1 : 2;
  static constexpr uint64 kEightRows = (8 * kRowBytes) >> 4;

  /// Descriptors differ only in their low words, so walking tiles is adding to one 32-bit number: steps of bytes / 16.
  /// Shared memory ends before 2^18, so an address / 16 fits its 14 bits.
  static constexpr uint64 kHighWord = (kEightRows << 32) | (kSwizzleMode << 62);

  /// Rows are m or n, columns are k: Q and K in Q K^T.
  static __device__ __forceinline__ uint32 k_major(uint32 address) { return (address >> 4) + (1u << 16); }

  /// Rows are k, columns are n: V in P V.
  static __device__ __forceinline__ uint32 n_major(uint32 address) {
    return (address >> 4) + (uint32{kPanelBytes >> 4} << 16);
  }

  static __device__ __forceinline__ uint64 descriptor(uint32 low_word, uint32 byte_offset) {
    return kHighWord | (low_word + (byte_offset >> 4));
  }

  /// The byte of a 16-byte chunk of a row inside a panel.
  static __device__ __forceinline__ uint32 chunk_offset(int row, int chunk) {
    const int swizzled = kPanelColumns == 64 ? chunk ^ (row & 7) : chunk ^ ((row >> 1) & 3);
    return row * kRowBytes + swizzled * 16;
  }
};

}  // namespace harrier::wgmma
