// Writes the output of a finished row, in 16 bits, from the registers that hold it.
#pragma once

#include "codegen/cuda/kernels/row_results.cuh"

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

/// O of a whole row. A thread has two neighbouring columns of eight; the lanes of a row exchange theirs, so that each
/// writes 16 bytes. Queries past the valid ones are zeros.
template <class Config>
__device__ __forceinline__ void store_output_rows(const ForwardParams& params, const volatile RowWork& row,
                                                  const ConsumerThread& thread,
                                                  const float (&output)[Config::kValueDim / 2]) {
  const TensorRows& tensor = params.output_rows;
  const int first_query = row.query_begin + thread.row();
  const int query_length = row.query_length, query_valid = row.query_valid;
  uint16* destination = static_cast<uint16*>(tensor.data) + row.batch_coordinate * tensor.batch_stride +
                        row.head * tensor.head_stride + (row.query_offset + first_query) * tensor.token_stride;
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const int query = first_query + 8 * part;
#pragma unroll
    for (int group = 0; group < Config::kValueDim / 32; ++group) {
      uint32 words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int element = 16 * group + 4 * i + 2 * part;
        words[i] = query < query_valid ? ptx::pack<Config::kBFloat16>(output[element], output[element + 1]) : 0;
      }
      transpose_words(words, thread.lane);
      const int column = 32 * group + 8 * (thread.lane & 3);
      if (query < query_length && column < tensor.columns) {
        *reinterpret_cast<uint4*>(destination + 8 * part * tensor.token_stride + column) = {words[0], words[1],
                                                                                            words[2], words[3]};
      }
    }
  }
}

}  // namespace harrier
