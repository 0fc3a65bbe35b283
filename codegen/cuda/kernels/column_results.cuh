// What becomes of gradients that lie in registers as products leave them: rows of 16-bit tensors, fp32 parts of split
// columns.
//
// A thread holds two rows (row and row + 8) and, of each, two neighbouring columns out of eight.
#pragma once

#include "codegen/cuda/kernels/column_work.cuh"
#include "codegen/cuda/kernels/epilogue_sm80.cuh"

namespace harrier {

/// Writes 32 columns of two rows, times `factor`, from `destination` on, which is column 0 of the thread's first row.
/// The lanes of a row exchange what they have, so that each writes 16 bytes. `rows` of the tensor are left from the
/// first row on, `columns` of a row.
template <bool kBFloat16>
__device__ __forceinline__ void store_rows_of_32(uint16* destination, int64 token_stride, int rows, int columns,
                                                 int lane, const float* values, float factor) {
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    uint32 words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      words[i] = ptx::pack<kBFloat16>(values[4 * i + 2 * part] * factor, values[4 * i + 2 * part + 1] * factor);
    }
    transpose_words(words, lane);
    const int column = 8 * (lane & 3);
    if (8 * part < rows && column < columns) {
      *reinterpret_cast<uint4*>(destination + 8 * part * token_stride + column) = {words[0], words[1], words[2],
                                                                                  words[3]};
    }
  }
}

/// dK or dV of a finished column, times `factor`. Rows past the extent are not written; those of hidden keys are zeros,
/// since nothing was added to them.
template <class Config, int kColumns, class Column>
__device__ __forceinline__ void store_key_rows(const TensorRows& tensor, const Column& column,
                                               const ConsumerThread& thread, const float (&values)[kColumns / 2],
                                               float factor) {
  const int key = column.key_begin + thread.row();
  uint16* destination = static_cast<uint16*>(tensor.data) + column.batch_coordinate * tensor.batch_stride +
                        column.kv_head * tensor.head_stride + (column.key_offset + key) * tensor.token_stride;
  const int rows = column.key_length - key;
#pragma unroll
  for (int group = 0; group < kColumns / 32; ++group) {
    store_rows_of_32<Config::kBFloat16>(destination + 32 * group, tensor.token_stride, rows,
                                        tensor.columns - 32 * group, thread.lane, values + 16 * group, factor);
  }
}

/// dK or dV of a part of a split column, as it was summed up, into columns `first_column` ... of its slot.
template <class Config, int kColumns>
__device__ __forceinline__ void store_column_part(float* parts, int slot, int first_column,
                                                  const ConsumerThread& thread, const float (&values)[kColumns / 2]) {
  constexpr int kRowNumbers = Config::kHeadDim + Config::kValueDim;
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const int64 row = static_cast<int64>(slot) * Config::kTileK + thread.row() + 8 * part;
    float* destination = parts + row * kRowNumbers + first_column + 2 * (thread.lane & 3);
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      *reinterpret_cast<float2*>(destination + 8 * j) = {values[4 * j + 2 * part], values[4 * j + 2 * part + 1]};
    }
  }
}

template <class Config, class Column>
__device__ __forceinline__ void store_d_key(const BackwardParams& params, const Column& column,
                                            const ConsumerThread& thread,
                                            const float (&d_key)[Config::kHeadDim / 2]) {
  if (column.split_slot >= 0) {
    store_column_part<Config, Config::kHeadDim>(params.column_parts, column.split_slot, 0, thread, d_key);
  } else {
    store_key_rows<Config, Config::kHeadDim>(params.d_key_rows, column, thread, d_key, params.slope);
  }
}

template <class Config, class Column>
__device__ __forceinline__ void store_d_value(const BackwardParams& params, const Column& column,
                                              const ConsumerThread& thread,
                                              const float (&d_value)[Config::kValueDim / 2]) {
  if (column.split_slot >= 0) {
    store_column_part<Config, Config::kValueDim>(params.column_parts, column.split_slot, Config::kHeadDim, thread,
                                                 d_value);
  } else {
    store_key_rows<Config, Config::kValueDim>(params.d_value_rows, column, thread, d_value, 1.0f);
  }
}

}  // namespace harrier
