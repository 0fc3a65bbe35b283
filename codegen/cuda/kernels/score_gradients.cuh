// From scores to P and dS, on tiles in registers. P = exp2(s - LSE), dS = P (dP - delta).
#pragma once

#include "codegen/cuda/kernels/pattern.cuh"
#include "codegen/cuda/kernels/ptx.cuh"

namespace harrier {

/// exp2(score * scale - log2_lse). A hidden pair's score is minus infinity, a query that sees nothing has an LSE of
/// plus infinity: both give 0.
__device__ __forceinline__ float probability(float score, float scale, float log2_lse) {
  return ptx::exp2_fast(score * scale - log2_lse);
}

/// P times the score's slope. A pair whose weight is 0 has no influence, whatever the slope is there.
__device__ __forceinline__ float sloped(float weight, float slope) { return weight == 0.0f ? 0.0f : weight * slope; }

/// The positions of a pair as scores take them: arrays end where the sequence does, and what comes of pairs past it is
/// hidden or never stored.
__device__ __forceinline__ int real_query(const Position& at, int query) { return smaller(query, at.query_length - 1); }
__device__ __forceinline__ int real_key(const Position& at, int key) { return smaller(key, at.key_length - 1); }

}  // namespace harrier
