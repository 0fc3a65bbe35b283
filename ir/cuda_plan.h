// The plan of a CUDA kernel: every number that we choose for sm_90a, and what shared memory and registers allow.
#pragma once

#include <cstdint>
#include <string>

#include "ir/workload.h"

namespace harrier {

/// One row is 64 queries for each consumer warpgroup; keys come `tile_k` at a time, gathered from boxes of `box_rows`.
struct CudaPlan {
  int consumers = 2;
  int tile_k = 128;
  int box_rows = 128;    // tile_k where keys follow from the mask; the block size (at most tile_k) for block lists
  int stages = 2;        // buffers of K, and of V
  int query_stages = 2;  // 2 lets the last product of a row run together with the first of the next
  bool ping_pong = true;
  int consumer_registers = 232;
  int producer_registers = 40;
  int ctas_per_sm = 1;
  bool fold_scale = true;  // a score s * parameter is folded into the exponent; needs a positive parameter
  bool operator==(const CudaPlan&) const = default;
};

/// "128x128 in boxes of 128, 2 consumers, 2+2 stages, ping-pong, 232/40 registers, 1 CTA a multiprocessor"
std::string print(const CudaPlan& plan);

/// Head dims in shared memory: the next multiple of 32. The copy engine fills the difference with zeros.
int64_t padded_dim(int64_t dim);

/// Columns of a swizzled panel: 64 where they divide the padded dim, else 32.
int64_t panel_columns(int64_t dim);

/// Dynamic shared memory of a CTA in bytes, as the kernel lays it out.
int64_t shared_bytes(const CudaPlan& plan, const Shape& shape);

/// Throws InvalidInput when the plan does not fit an H100: shared memory, registers, tile shapes.
void verify(const CudaPlan& plan, const Shape& shape);

/// The plan that we measured to be good. `block_rows` is the block size of the mask's lists, 0 where keys follow from
/// the mask; `keys_per_query` is about how many keys a query sees.
CudaPlan default_sm90_plan(const Shape& shape, int64_t block_rows, int64_t keys_per_query);

}  // namespace harrier
