// Where a CPU kernel keeps its tiles: one block of floats a thread, queries in vector lanes throughout.
#pragma once

#include <cstdint>

#include "ir/plan.h"
#include "ir/workload.h"

namespace harrier {

/// Offsets in floats; every matrix is row-major with `row_lanes` floats a row unless said otherwise.
struct ScratchLayout {
  int64_t row_lanes;     // tile_q rounded up to whole vectors
  int64_t queries;       // Q^T [head_dim, row_lanes]
  int64_t scores;        // S^T, then P^T [tile_k, row_lanes]
  int64_t outputs;       // O^T [value_dim, row_lanes]
  int64_t row_max;       // running maximum of the scores, base-2 units [row_lanes]
  int64_t row_sum;       // running softmax denominator [row_lanes]
  int64_t visible_keys;  // keys that the mask showed so far, as floats [row_lanes]
  int64_t keys;          // K widened to fp32 [tile_k, head_dim]; empty for fp32
  int64_t values;        // V widened to fp32 [tile_k, value_dim]; empty for fp32
  int64_t transpose;     // between the halves of a transposition [lanes, lanes]
  int64_t block;         // a transposed block of outputs [lanes, lanes]
  // The rest is empty in a forward kernel. There, `outputs` is dQ^T [head_dim, row_lanes].
  int64_t d_outputs;       // dO^T [value_dim, row_lanes]
  int64_t d_weights;       // dP^T, then the gradient of S^T [tile_k, row_lanes]
  int64_t delta;           // rowsum(dO * O) [row_lanes]
  int64_t query_rows;      // Q widened to fp32 [tile_q, head_dim]; empty for fp32
  int64_t d_output_rows;   // dO widened to fp32 [tile_q, value_dim]; empty for fp32
  int64_t load_gradients;  // for each load whose index is the same for all keys [loads, row_lanes]
  int64_t floats;          // size of the whole
};

/// `loads`: float loads of the score that a backward kernel differentiates in.
ScratchLayout scratch_layout(const Shape& shape, const CpuPlan& plan, int64_t loads = 0);

}  // namespace harrier
