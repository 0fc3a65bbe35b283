// Writes a block table of any form as a dense array of counts, for masks that look their tables up pair by pair.
#pragma once

#include "codegen/cuda/kernels/table_counts.cuh"

namespace harrier {

inline constexpr int kExpandBlocks = 4096;  // key blocks that are gathered at a time

/// A grid of (row blocks, heads * batch rows) CTAs of kBuildThreads; `counts` holds kExpandBlocks bytes.
__device__ __forceinline__ void expand_table(const ExpandParams& params, uint32* counts) {
  const int thread = threadIdx.x;
  const int row_block = blockIdx.x;
  RowWork row{};
  row.head = static_cast<int>(blockIdx.y) % params.heads;
  row.batch = static_cast<int>(blockIdx.y) / params.heads;
  const SequenceTable& sequences = params.sequences;
  row.query_length = sequences.cu_query != nullptr ? sequences.cu_query[row.batch + 1] - sequences.cu_query[row.batch]
                                                   : sequences.query_length;
  if (row_block >= divide_up(row.query_length, params.table.block)) return;
  unsigned char* out =
      params.counts + row.batch * params.batch_stride + row.head * params.head_stride + row_block * params.row_stride;
  for (int first = 0; first < params.key_blocks; first += kExpandBlocks) {
    const int blocks = smaller(kExpandBlocks, params.key_blocks - first);
    for (int word = thread; word < kExpandBlocks / 4; word += kBuildThreads) counts[word] = 0;
    __syncthreads();
    add_table_row(params.table, row, row_block, {counts, first, first + blocks}, thread);
    __syncthreads();
    for (int i = thread; i < blocks; i += kBuildThreads) {
      const int count = static_cast<int>(counts[i / 4] >> (8 * (i % 4)) & 0xff);
      out[first + i] = static_cast<unsigned char>(params.table.counted != 0 ? count : smaller(count, 1));
    }
    __syncthreads();
  }
}

}  // namespace harrier
