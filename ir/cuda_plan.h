// The plan of a CUDA kernel: every number that we choose, and what shared memory and registers allow.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ir/workload.h"

namespace harrier {

/// Which kernel: the one for sm_90a, where one warp starts bulk copies and warpgroups multiply, or the one for sm_80
/// and everything after it, where every warp copies and multiplies.
enum class CudaFamily { kSm90, kSm80 };

/// One row is 64 queries for each consumer (sm_90a: a warpgroup); keys come `tile_k` at a time, gathered from boxes of
/// `box_rows`. Of backward kernels: see ir/cuda_backward_plan.h.
struct CudaPlan {
  CudaFamily family = CudaFamily::kSm90;
  int consumers = 2;
  int tile_k = 128;
  int box_rows = 128;     // tile_k where keys follow from the mask; the block size (at most tile_k) for block lists
  int row_blocks = 1;     // blocks of queries (of a table) in one row; 0: blocks and rows do not divide each other
  int stages = 2;         // buffers of K, and of V; sm_80 has 2
  int query_stages = 2;   // 2 lets the last product of a row run together with the first of the next; sm_80 has 1
  bool ping_pong = true;  // sm_90a alone, as are the next two
  int consumer_registers = 232;
  int producer_registers = 40;
  int warp_rows = 16;  // sm_80 alone: queries of a warp, 16 or 32; 32 read K and V from shared memory half as often
  int ctas_per_sm = 1;
  bool deterministic = false;  // of backward kernels: dQ has the same bits every time; of sm_80's family it has anyway
  bool fold_scale = true;      // a score s * parameter is folded into the exponent; needs a positive parameter
  bool operator==(const CudaPlan&) const = default;
};

/// "128x128 in boxes of 128, 2 consumers, 2+2 stages, ping-pong, 232/40 registers, 1 CTA a multiprocessor", or
/// "128x64 in boxes of 64, 8 warps, 1 CTA a multiprocessor". Of a backward kernel "rows of 64 queries, columns of 128
/// keys, 2 warpgroups, 2 stages, 224/56 registers, 1 CTA a multiprocessor", or with "4 warps" and no registers; with
/// ", deterministic" behind it where that is asked for.
std::string print(const CudaPlan& plan, Direction direction);

/// Head dims in shared memory: the next multiple of 32. The copy engine fills the difference with zeros.
int64_t padded_dim(int64_t dim);

/// Columns of a swizzled panel: 64 where they divide the padded dim, else 32.
int64_t panel_columns(int64_t dim);

/// Threads of a CTA of the forward kernel.
int cuda_threads(const CudaPlan& plan);

/// Dynamic shared memory of a CTA in bytes, as the kernel of the shape's direction lays it out.
int64_t shared_bytes(const CudaPlan& plan, const Shape& shape);

/// What a CTA may have of it on every GPU from sm_80 on. Default plans of sm_80 keep to it; others may need more, up to
/// what sm_80 itself has.
inline constexpr int64_t kPortableSharedBytes = 101376;

/// Throws InvalidInput when the plan does not fit an H100 or, of the other family, an A100: shared memory, registers,
/// tile shapes.
void verify(const CudaPlan& plan, const Shape& shape);

/// The plan that we measured to be good. `block_rows` is the block size of the mask's lists, 0 where keys follow from
/// the mask; `keys_per_query` is about how many keys a query sees.
CudaPlan default_sm90_plan(const Shape& shape, int64_t block_rows, int64_t keys_per_query);

/// The same for sm_80 and what comes after it, chosen by what fits and compiles without spills.
CudaPlan default_sm80_plan(const Shape& shape, int64_t block_rows, int64_t keys_per_query);

/// Blocks of queries of lists whose boxes are whole key tiles. Tables that these do not fit are looked up.
void fit_one_box(CudaPlan& plan, int64_t block_rows);

/// The nearest plan that leaves each thread more registers: fewer CTAs a multiprocessor, then fewer queries a row.
/// Nothing when there is none.
std::optional<CudaPlan> roomier_plan(const CudaPlan& plan);

}  // namespace harrier
