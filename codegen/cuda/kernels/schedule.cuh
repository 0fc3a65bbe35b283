// The order in which persistent CTAs take rows, or columns. CTA i starts with item i and then draws from a counter.
#pragma once

#include "codegen/cuda/kernels/params.cuh"

namespace harrier {

/// How many items there are.
__device__ __forceinline__ int work_count(const ForwardParams& params) {
  return params.order != nullptr ? *params.order_length : params.work_count;
}

/// Item `index` of the order. Without an array: the rows of `heads_per_group` heads together, so that their K and V
/// stay in L2, last rows (the longest of a causal mask) first, heads innermost.
__device__ __forceinline__ WorkItem work_item(const ForwardParams& params, int index) {
  if (params.order != nullptr) return params.order[index];
  const int group_items = params.heads_per_group * params.query_tiles;
  const int group = index / group_items;
  const int first_head = group * params.heads_per_group;
  const int all_heads = params.work_count / params.query_tiles;
  const int heads = smaller(params.heads_per_group, all_heads - first_head);
  const int place = index - group * group_items;
  const int head = first_head + place % heads;
  const int tile = place / heads;
  return {params.last_rows_first != 0 ? params.query_tiles - 1 - tile : tile,
          head % params.heads,
          head / params.heads,
          0,
          0x7fffffff,
          -1};
}

/// Asks for the next item; the answer may be used much later, which hides the counter's latency.
__device__ __forceinline__ int draw_next(int* counter) { return atomicAdd(counter, 1) + static_cast<int>(gridDim.x); }
__device__ __forceinline__ int draw_next(const ForwardParams& params) { return draw_next(params.counter); }

/// The next item where even the first ones come from the counter, not from the CTA's number: what has been drawn is
/// then worked on by a CTA that runs, and so is everything before it, whatever else keeps the GPU busy.
__device__ __forceinline__ int draw_in_turn(int* counter) { return atomicAdd(counter, 1); }

/// The last CTA to finish leaves the counter as it was found.
__device__ __forceinline__ void finish_schedule(int* counter) {
  if (atomicAdd(counter + 1, 1) == static_cast<int>(gridDim.x) - 1) {
    counter[0] = 0;
    counter[1] = 0;
  }
}
__device__ __forceinline__ void finish_schedule(const ForwardParams& params) { finish_schedule(params.counter); }

}  // namespace harrier
