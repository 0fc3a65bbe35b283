// Finds where the segment of each key begins and ends, for documents whose ids do not fall inside a sequence.
#pragma once

#include "codegen/cuda/kernels/build_rows.cuh"

namespace harrier {

/// One thread for each key token; a grid of key tokens / kBuildThreads rounded up.
__device__ __forceinline__ void segment_bounds(const SegmentParams& params) {
  const int token = blockIdx.x * kBuildThreads + threadIdx.x;
  if (token >= params.key_tokens) return;
  const SequenceTable& sequences = params.sequences;
  int first = 0, length = sequences.key_length;
  if (sequences.cu_key != nullptr) {
    int batch = 0, end = params.batches;  // the last sequence that starts at or before the token
    while (end - batch > 1) {
      const int middle = (batch + end) / 2;
      if (sequences.cu_key[middle] <= token) {
        batch = middle;
      } else {
        end = middle;
      }
    }
    first = sequences.cu_key[batch];
    length = sequences.cu_key[batch + 1] - first;
  } else {
    first = token / length * length;
  }
  const int* ids = params.segments + first;
  const int own = token - first;
  if (own >= length) return;  // behind the last sequence
  const int id = ids[own];
  int begin = 0, limit = own;  // the first key of the same segment
  while (begin < limit) {
    const int middle = (begin + limit) / 2;
    if (ids[middle] < id) {
      begin = middle + 1;
    } else {
      limit = middle;
    }
  }
  int end = own + 1;  // one past the last
  limit = length;
  while (end < limit) {
    const int middle = (end + limit) / 2;
    if (ids[middle] <= id) {
      end = middle + 1;
    } else {
      limit = middle;
    }
  }
  params.begin[token] = begin;
  params.end[token] = end;
  if (own > 0 && ids[own - 1] > id) *params.falls = 1;
}

}  // namespace harrier
