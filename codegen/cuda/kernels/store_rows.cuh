// Writes rows of a result in 16 bits from the registers of a warp that hold them.
#pragma once

#include "codegen/cuda/kernels/params.cuh"
#include "codegen/cuda/kernels/ptx.cuh"

namespace harrier {

/// Transposes a 4 x 4 matrix of words among four neighbouring lanes: lane i's word j becomes lane j's word i.
__device__ __forceinline__ void transpose_words(uint32 (&words)[4], int lane) {
#pragma unroll
  for (int distance = 1; distance <= 2; distance *= 2) {
    const bool upper = (lane & distance) != 0;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int low = distance == 1 ? 2 * pair : pair;
      const uint32 received = __shfl_xor_sync(0xffffffffu, upper ? words[low] : words[low + distance], distance);
      (upper ? words[low] : words[low + distance]) = received;
    }
  }
}

/// Two rows of a thread, `first_row` and the one 8 further down, of kCount / 2 columns among four lanes. A thread has
/// two neighbouring columns of eight; the lanes of a row exchange theirs, so that each writes 16 bytes. `destination`
/// is the element of the first row in column 0; the values are those from `first_column` on. Rows from `valid` on
/// become zeros, those from `length` on are not written.
template <bool kBFloat16, int kCount>
__device__ __forceinline__ void store_rows(const TensorRows& tensor, uint16* destination, int first_row, int valid,
                                           int length, int lane, const float (&values)[kCount], int first_column = 0) {
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const int row = first_row + 8 * part;
#pragma unroll
    for (int group = 0; group < kCount / 16; ++group) {
      uint32 words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int element = 16 * group + 4 * i + 2 * part;
        words[i] = row < valid ? ptx::pack<kBFloat16>(values[element], values[element + 1]) : 0;
      }
      transpose_words(words, lane);
      const int column = first_column + 32 * group + 8 * (lane & 3);
      if (row < length && column < tensor.columns) {
        *reinterpret_cast<uint4*>(destination + 8 * part * tensor.token_stride + column) = {words[0], words[1],
                                                                                            words[2], words[3]};
      }
    }
  }
}

/// The element of a tensor in column 0.
__device__ __forceinline__ uint16* element_of(const TensorRows& tensor, int batch, int head, int token) {
  return static_cast<uint16*>(tensor.data) + batch * tensor.batch_stride + head * tensor.head_stride +
         token * tensor.token_stride;
}

}  // namespace harrier
