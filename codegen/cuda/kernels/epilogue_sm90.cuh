// Writes a finished row: O in 16 bits through shared memory and a tensor map, or a part of a split row in fp32; LSE.
#pragma once

#include "codegen/cuda/kernels/online_softmax.cuh"
#include "codegen/cuda/kernels/shared_layout.cuh"

namespace harrier {

/// A consumer thread's place: its warpgroup among the consumers, its warp in that, its lane.
struct ConsumerThread {
  int warpgroup;
  int warp;
  int lane;
  /// The first of its two rows in the query tile; the other is 8 further down.
  __device__ __forceinline__ int row() const { return warpgroup * kWarpgroupRows + warp * 16 + (lane >> 2); }
};

/// Joins the threads of a warpgroup. Named barriers 1 ... kConsumers order the warpgroups among each other, the next
/// ones are for this. A constant id where there is only one, since an id that is known at run time alone reserves all
/// sixteen.
template <class Config>
__device__ __forceinline__ void sync_warpgroup(int warpgroup) {
  const int id = Config::kConsumers == 1 ? 2 : 1 + Config::kConsumers + warpgroup;
  ptx::named_barrier_sync(id, kWarpgroupThreads);
}

/// The rows' log-sum-exp in units of log2; minus infinity for rows without keys.
__device__ __forceinline__ float log2_sum(const SoftmaxState& state, int row, float scale) {
  return state.sum[row] > 0.0f ? exponent_bound(state.maximum[row], scale) + ptx::log2_fast(state.sum[row])
                               : minus_infinity();
}

__device__ __forceinline__ void store_lse(const ForwardParams& params, const volatile RowWork& row, int query,
                                          float lse) {
  if (params.lse == nullptr || query >= row.query_length) return;
  params.lse[row.batch_coordinate * params.lse_batch_stride + row.head * params.lse_head_stride + row.query_offset +
             query] = lse;
}

/// O of a whole row. The warpgroup's part of Q, which nobody reads any more, becomes the buffer of the store. Thread 0
/// of the warpgroup starts the store and must wait for it before the buffer is released.
template <class Config>
__device__ __forceinline__ void store_output(const ForwardParams& params, const SharedLayout<Config>& shared,
                                             const volatile RowWork& row, const ConsumerThread& thread,
                                             uint32 query_stage, const float (&output)[Config::kValueDim / 2]) {
  using Panels = typename SharedLayout<Config>::OutputPanels;
  const uint32 buffer = shared.query(query_stage) + thread.warpgroup * kWarpgroupRows * Panels::kRowBytes;
  const int tile_row = thread.warp * 16 + (thread.lane & 15);
#pragma unroll
  for (int j = 0; j < Config::kValueDim / 16; ++j) {
    const int column = 16 * j;
    const int chunk = (column % Panels::kPanelColumns) / 8 + (thread.lane >> 4);
    ptx::store_matrices(
        buffer + column / Panels::kPanelColumns * Panels::kPanelBytes + Panels::chunk_offset(tile_row, chunk),
        ptx::pack<Config::kBFloat16>(output[8 * j], output[8 * j + 1]),
        ptx::pack<Config::kBFloat16>(output[8 * j + 2], output[8 * j + 3]),
        ptx::pack<Config::kBFloat16>(output[8 * j + 4], output[8 * j + 5]),
        ptx::pack<Config::kBFloat16>(output[8 * j + 6], output[8 * j + 7]));
  }
  ptx::fence_shared_for_async();
  sync_warpgroup<Config>(thread.warpgroup);
  if (thread.warp == 0 && thread.lane == 0) {
    const int query = row.query_begin + thread.warpgroup * kWarpgroupRows;
    const int length = row.query_length;
    // Places past the extent are out of bounds and not written; a box that starts there would be all of it.
    if (query < length) {
#pragma unroll
      for (int panel = 0; panel < Panels::kCount; ++panel) {
        ptx::store_box(buffer + panel * Panels::kPanelBytes, &params.output, panel * Panels::kPanelColumns,
                       kRaggedTokens - length + query, row.head, row.query_offset + length, row.batch_coordinate);
      }
      ptx::commit_stores();
    }
  }
}

/// A part of a split row: normalised by its own sum, to be weighed by its own LSE when the parts are combined.
template <class Config>
__device__ __forceinline__ void store_split(const ForwardParams& params, int slot, const ConsumerThread& thread,
                                            const float (&output)[Config::kValueDim / 2], const float (&lse)[2]) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int64 place = static_cast<int64>(slot) * Config::kTileQ + thread.row() + 8 * row;
    float* destination = params.split_output + place * Config::kValueDim + 2 * (thread.lane & 3);
#pragma unroll
    for (int j = 0; j < Config::kValueDim / 8; ++j) {
      *reinterpret_cast<float2*>(destination + 8 * j) = {output[4 * j + 2 * row], output[4 * j + 2 * row + 1]};
    }
    if ((thread.lane & 3) == 0) params.split_lse[place] = lse[row];
  }
}

/// A row that sees no key: zeros and minus infinity. Touches no buffer that copies may be filling.
template <class Config>
__device__ __forceinline__ void store_empty(const ForwardParams& params, const volatile RowWork& row,
                                            const ConsumerThread& thread) {
  const int slot = row.split_slot;
  if (slot >= 0) {
    if ((thread.lane & 3) == 0) {
      params.split_lse[static_cast<int64>(slot) * Config::kTileQ + thread.row()] = minus_infinity();
      params.split_lse[static_cast<int64>(slot) * Config::kTileQ + thread.row() + 8] = minus_infinity();
    }
    return;
  }
  for (int part = 0; part < 2; ++part) {
    const int query = row.query_begin + thread.row() + 8 * part;
    if (query >= row.query_length) continue;
    uint16* output =
        static_cast<uint16*>(params.output_rows.data) + row.batch_coordinate * params.output_rows.batch_stride +
        row.head * params.output_rows.head_stride + (row.query_offset + query) * params.output_rows.token_stride;
    for (int column = thread.lane & 3; column < params.output_rows.columns; column += 4) output[column] = 0;
    if ((thread.lane & 3) == 0) store_lse(params, row, query, minus_infinity());
  }
}

}  // namespace harrier
