// Rows as the kernels that build lists and orders number them, and small things that they share.
#pragma once

#include "codegen/cuda/kernels/build_params.cuh"
#include "codegen/cuda/kernels/row_work.cuh"

namespace harrier {

inline constexpr int kBuildWarps = 8;
inline constexpr int kBuildThreads = 32 * kBuildWarps;

struct RowPlace {
  int batch;
  int tile;
};

/// The sequence and query tile of place `index` among the rows of one head: the inverse of first_row.
template <class Config>
__device__ __forceinline__ RowPlace row_at(const SequenceTable& sequences, int rows_per_batch, int batches, int index) {
  if (rows_per_batch != kPackedRows) {
    return rows_per_batch == 0 ? RowPlace{0, index} : RowPlace{index / rows_per_batch, index % rows_per_batch};
  }
  int batch = 0, end = batches;  // the last sequence whose rows start at or before `index`
  while (end - batch > 1) {
    const int middle = (batch + end) / 2;
    const bool before = first_row(kPackedRows, middle, sequences.cu_query[middle], Config::kTileQ) <= index;
    batch = before ? middle : batch;
    end = before ? end : middle;
  }
  return {batch, index - first_row(kPackedRows, batch, sequences.cu_query[batch], Config::kTileQ)};
}

__device__ __forceinline__ int warp_sum(int value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}

/// The sum of the lanes up to and with this one.
__device__ __forceinline__ int warp_prefix_sum(int value, int lane) {
  for (int distance = 1; distance < 32; distance *= 2) {
    const int before = __shfl_up_sync(0xffffffffu, value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}

}  // namespace harrier
