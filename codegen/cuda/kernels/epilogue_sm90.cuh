// Writes the output of a finished row, in 16 bits, through shared memory and a tensor map.
#pragma once

#include "codegen/cuda/kernels/row_results.cuh"
#include "codegen/cuda/kernels/shared_layout.cuh"

namespace harrier {

/// Joins the threads of a warpgroup. Named barriers 1 ... kConsumers order the warpgroups among each other, the next
/// ones are for this. A constant id where there is only one, since an id that is known at run time alone reserves all
/// sixteen.
template <class Config>
__device__ __forceinline__ void sync_warpgroup(int warpgroup) {
  const int id = Config::kConsumers == 1 ? 2 : 1 + Config::kConsumers + warpgroup;
  ptx::named_barrier_sync(id, kWarpgroupThreads);
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

}  // namespace harrier
