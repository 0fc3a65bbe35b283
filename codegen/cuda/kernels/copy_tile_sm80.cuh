// Copies of rows of tensors into swizzled tiles, by all threads of a CTA.
#pragma once

#include "codegen/cuda/kernels/params.cuh"
#include "codegen/cuda/kernels/shared_layout_sm80.cuh"

namespace harrier {

/// Rows of one head of one sequence.
struct SourceRows {
  const char* first;
  int64 row_bytes;
  int columns;
};

__device__ __forceinline__ SourceRows source_rows(const TensorRows& tensor, int batch, int head, int token) {
  const int64 element = batch * tensor.batch_stride + head * tensor.head_stride + token * tensor.token_stride;
  return {static_cast<const char*>(tensor.data) + 2 * element, 2 * tensor.token_stride, tensor.columns};
}

/// Starts copies of the rows that `token_of(row, i)` names into a tile; -1, and columns past the tensor's, are zeros.
/// Thread by thread, `i` counts the rows that it copies: they are kThreads / Tile::kGroupChunks apart.
template <class Tile, int kThreads, class TokenOf>
__device__ __forceinline__ void copy_tile(uint32 tile, const SourceRows& source, TokenOf token_of) {
  constexpr int kRowStep = kThreads / Tile::kGroupChunks;
  static_assert(kRowStep % 8 == 0, "a thread's rows share the phase of the swizzle");
  const int thread = static_cast<int>(threadIdx.x);
  const int chunk = thread % Tile::kGroupChunks, first_row = thread / Tile::kGroupChunks;
  const uint32 destination = tile + Tile::offset(first_row, chunk);
#pragma unroll(Tile::kGroups > 2 ? 1 : 8)
  for (int i = 0; i < divide_up(Tile::kTileRows, kRowStep); ++i) {
    const int row = first_row + i * kRowStep;
    if (Tile::kTileRows % kRowStep != 0 && row >= Tile::kTileRows) continue;
    const int token = token_of(row, i);
    const char* first = source.first + token * source.row_bytes + chunk * 16;
#pragma unroll
    for (int group = 0; group < Tile::kGroups; ++group) {
      const bool real = token >= 0 && 8 * (group * Tile::kGroupChunks + chunk) < source.columns;
      ptx::copy_async_16(destination + i * kRowStep * Tile::kRowBytes + group * Tile::kGroupBytes,
                         real ? first + group * Tile::kGroupBytes : source.first, real ? 16 : 0);
    }
  }
}

}  // namespace harrier
