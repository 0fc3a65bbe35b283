// Products of a warp's 16 rows with tiles in shared memory, by mma.sync.
#pragma once

#include "codegen/cuda/kernels/shared_layout_sm80.cuh"

namespace harrier {

/// Four accumulators of a product.
template <int kCount>
__device__ __forceinline__ float (&accumulators(float (&all)[kCount], int first))[4] {
  return reinterpret_cast<float(&)[4]>(all[first]);
}

/// Where a lane's addresses lie inside a tile. A left operand, and a right one whose rows are summed over: lane l gives
/// row l % 16 and the columns' half l / 16. A right operand whose rows are columns of the product has both the other
/// way round.
template <class Tile>
__device__ __forceinline__ uint32 left_lane(int lane) {
  return Tile::offset(lane & 15, lane >> 4);
}
template <class Tile>
__device__ __forceinline__ uint32 right_lane(int lane) {
  return Tile::offset((lane & 7) + 8 * (lane >> 4), (lane >> 3) & 1);
}

/// d = A B^T: 16 rows of A by 2 * kCount / 16 * ... rows of B, over the columns of both. `left` and `right` are this
/// lane's addresses of the first row.
template <bool kBFloat16, class Left, class Right, int kColumns, int kCount>
__device__ __forceinline__ void multiply_rows(uint32 left, uint32 right, float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) d[i] = 0.0f;
#pragma unroll(kColumns > 128 ? 4 : 8)
  for (int step = 0; step < kColumns / 16; ++step) {
    uint32 a[4];
    ptx::load_matrices(Left::advance(left, step), a);
#pragma unroll
    for (int rows = 0; rows < kCount / 8; ++rows) {
      uint32 b[4];
      ptx::load_matrices(Right::advance(right, step) + rows * 16 * Right::kRowBytes, b);
      ptx::mma<kBFloat16>(accumulators(d, 8 * rows), a, b[0], b[1]);
      ptx::mma<kBFloat16>(accumulators(d, 8 * rows + 4), a, b[2], b[3]);
    }
  }
}

/// d += A B: A packed from accumulators of 16 rows by 4 * kPacked / 2 columns, which are rows of B.
template <bool kBFloat16, class Right, int kPacked, int kCount>
__device__ __forceinline__ void multiply_packed(const uint32 (&packed)[kPacked], uint32 right, float (&d)[kCount]) {
#pragma unroll
  for (int rows = 0; rows < kPacked / 4; ++rows) {
    const uint32 a[4] = {packed[4 * rows], packed[4 * rows + 1], packed[4 * rows + 2], packed[4 * rows + 3]};
#pragma unroll
    for (int columns = 0; columns < kCount / 8; ++columns) {
      uint32 b[4];
      ptx::load_matrices_transposed(Right::advance(right, columns) + rows * 16 * Right::kRowBytes, b);
      ptx::mma<kBFloat16>(accumulators(d, 8 * columns), a, b[0], b[1]);
      ptx::mma<kBFloat16>(accumulators(d, 8 * columns + 4), a, b[2], b[3]);
    }
  }
}

}  // namespace harrier
