// How often a block table names each key block for the row blocks of one row, gathered into shared memory. Every form
// of table ends in the same bytes, so what follows cannot tell them apart, and adding to them sorts and merges lists.
#pragma once

#include "codegen/cuda/kernels/build_rows.cuh"

namespace harrier {

__device__ __forceinline__ int64 load_integer(const void* data, int bytes, int64 index) {
  if (bytes == 1) return static_cast<const unsigned char*>(data)[index];
  if (bytes == 4) return static_cast<const int*>(data)[index];
  return static_cast<const int64*>(data)[index];
}

/// Adds to one of the bytes that share a word; stays at 255.
__device__ __forceinline__ void add_count(uint32* words, int index, int count) {
  uint32* word = words + index / 4;
  const int shift = 8 * (index % 4);
  uint32 seen = *static_cast<volatile uint32*>(word);
  for (;;) {
    const int sum = smaller(static_cast<int>(seen >> shift & 0xff) + count, 0xff);
    const uint32 found = atomicCAS(word, seen, (seen & ~(0xffu << shift)) | static_cast<uint32>(sum) << shift);
    if (found == seen) return;
    seen = found;
  }
}

/// The key blocks [first, end) of which a gatherer keeps counts.
struct BlockWindow {
  uint32* counts;  // one byte for each block
  int first;
  int end;

  __device__ __forceinline__ void add(int64 block, int64 count) const {
    if (block < first || block >= end || count <= 0) return;
    add_count(counts, static_cast<int>(block) - first, static_cast<int>(count < 255 ? count : 255));
  }
};

/// Adds the counts of one row block. All threads of the CTA.
__device__ __forceinline__ void add_table_row(const BlockTable& table, const RowWork& row, int row_block,
                                              const BlockWindow& window, int thread) {
  const int64 place = row.batch * table.batch_stride + row.head * table.head_stride;
  if (table.kind == TableKind::kDense) {
    const int64 begin = place + row_block * table.row_stride;
#pragma unroll 1
    for (int block = window.first + thread; block < window.end; block += kBuildThreads) {
      window.add(block, load_integer(table.data, table.element_bytes, begin + block));
    }
  } else if (table.kind == TableKind::kLists) {
    const int64 begin = load_integer(table.offsets, table.offset_bytes, place + row_block);
    const int64 end = load_integer(table.offsets, table.offset_bytes, place + row_block + 1);
#pragma unroll 1
    for (int64 i = begin + thread; i < end; i += kBuildThreads) {
      window.add(load_integer(table.data, table.element_bytes, i), table.counts != nullptr ? table.counts[i] : 1);
    }
  } else if (table.kind == TableKind::kBigBird) {
    const int last = divide_up(row.query_length, table.block) - 1;
    if (row_block == 0 || row_block == last) {
#pragma unroll 1
      for (int block = window.first + thread; block < window.end; block += kBuildThreads) {
        window.add(block, 1);
      }
      return;
    }
    // Blocks 0, row_block - 1, row_block, row_block + 1 and the last are seen once, also where two of them are the
    // same.
    if (thread < 3) window.add(row_block - 1 + thread, 1);
    if (thread == 3 && row_block != 1) window.add(0, 1);
    if (thread == 4 && row_block + 1 != last) window.add(last, 1);
    const int64 begin = place + (row_block - 1) * table.row_stride;
#pragma unroll 1
    for (int i = thread; i < table.random; i += kBuildThreads) {
      window.add(table.data != nullptr ? load_integer(table.data, table.element_bytes, begin + i) : 0, 1);
    }
  }
}

}  // namespace harrier
