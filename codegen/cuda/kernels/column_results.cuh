// What becomes of dK and dV that lie in registers as products leave them: rows of 16-bit tensors, fp32 parts of split
// columns.
//
// A thread holds two rows (row and row + 8) and, of each, two neighbouring columns out of eight.
#pragma once

#include "codegen/cuda/kernels/column_work.cuh"
#include "codegen/cuda/kernels/row_results.cuh"
#include "codegen/cuda/kernels/store_rows.cuh"

namespace harrier {

/// dK or dV of a finished column, times `factor`. Rows past the extent are not written; those of hidden keys are zeros,
/// since nothing was added to them.
template <class Config, int kColumns, class Column>
__device__ __forceinline__ void store_key_rows(const TensorRows& tensor, const Column& column,
                                               const ConsumerThread& thread, float (&values)[kColumns / 2],
                                               float factor) {
  const int key = column.key_begin + thread.row(), length = column.key_length;
#pragma unroll
  for (float& value : values) value *= factor;
  store_rows<Config::kBFloat16>(tensor,
                                element_of(tensor, column.batch_coordinate, column.kv_head, column.key_offset + key),
                                key, length, length, thread.lane, values);
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
                                            const ConsumerThread& thread, float (&d_key)[Config::kHeadDim / 2]) {
  if (column.split_slot >= 0) {
    store_column_part<Config, Config::kHeadDim>(params.column_parts, column.split_slot, 0, thread, d_key);
  } else {
    store_key_rows<Config, Config::kHeadDim>(params.d_key_rows, column, thread, d_key, params.slope);
  }
}

template <class Config, class Column>
__device__ __forceinline__ void store_d_value(const BackwardParams& params, const Column& column,
                                              const ConsumerThread& thread, float (&d_value)[Config::kValueDim / 2]) {
  if (column.split_slot >= 0) {
    store_column_part<Config, Config::kValueDim>(params.column_parts, column.split_slot, Config::kHeadDim, thread,
                                                 d_value);
  } else {
    store_key_rows<Config, Config::kValueDim>(params.d_value_rows, column, thread, d_value, 1.0f);
  }
}

}  // namespace harrier
