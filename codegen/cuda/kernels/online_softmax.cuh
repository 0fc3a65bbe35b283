// The softmax of a row, key tile by key tile: a bound near the running maximum, a running sum of exp(s - bound), and
// the factor by which what was accumulated under an older bound must shrink.
// All in powers of two: exp(s) = exp2(s * scale).
#pragma once

#include "codegen/cuda/kernels/ptx.cuh"

namespace harrier {

/// This thread's two rows. Sums are partial: each of the four threads of a row holds its own part until the end.
struct SoftmaxState {
  float bound[2] = {0.0f, 0.0f};                          // what is subtracted in the exponent; 0 until a key is seen
  float limit[2] = {minus_infinity(), minus_infinity()};  // a score above it raises the bound
  float sum[2] = {0.0f, 0.0f};
  int shown[2] = {0, 0};  // pruned_as_zero: keys that the mask shows, of partial tiles; partial likewise
};

/// The bound is kept until a row outgrows it by this many powers of two, so most tiles rescale nothing. Probabilities
/// are then at most 2^8, which 16-bit floats hold.
inline constexpr float kKeptGrowth = 8.0f;

/// Raises a row's bound to its maximum in this tile, if that is higher. Returns the factor for what was accumulated.
__device__ __forceinline__ float raise_bound(SoftmaxState& state, int row, float tile_maximum, float scale) {
  if (tile_maximum == minus_infinity()) return 1.0f;
  const float before = state.bound[row];
  const bool seen = state.limit[row] > minus_infinity();
  const float bound = seen ? fmaxf(before, tile_maximum * scale) : tile_maximum * scale;
  const float correction = seen ? ptx::exp2_fast(before - bound) : 1.0f;
  state.bound[row] = bound;
  state.limit[row] = (bound + kKeptGrowth) * ptx::reciprocal_fast(scale);
  state.sum[row] *= correction;
  return correction;
}

/// Replaces scores by exp2(score * scale - bound) and adds them to the sums. Returns whether the bound of some row of
/// this warp was raised: then the output must be multiplied by `correction`.
template <int kCount>
__device__ __forceinline__ bool softmax_tile(float (&scores)[kCount], SoftmaxState& state, float (&correction)[2],
                                             float scale) {
  float tile_maximum[2];
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float left = scores[2 * row], right = scores[2 * row + 1];
#pragma unroll
    for (int i = 4; i < kCount; i += 4) {
      left = fmaxf(left, scores[i + 2 * row]);
      right = fmaxf(right, scores[i + 2 * row + 1]);
    }
    float maximum = fmaxf(left, right);
    maximum = fmaxf(maximum, ptx::exchange(maximum, 1));
    tile_maximum[row] = fmaxf(maximum, ptx::exchange(maximum, 2));
  }
  const bool grows = tile_maximum[0] > state.limit[0] || tile_maximum[1] > state.limit[1];
  const bool raised = __any_sync(0xffffffffu, grows);
  if (raised) {
#pragma unroll
    for (int row = 0; row < 2; ++row) correction[row] = raise_bound(state, row, tile_maximum[row], scale);
  }
#pragma unroll
  for (int i = 0; i < kCount; i += 2) {
    const int row = (i >> 1) & 1;
    scores[i] = ptx::exp2_fast(scores[i] * scale - state.bound[row]);
    scores[i + 1] = ptx::exp2_fast(scores[i + 1] * scale - state.bound[row]);
    state.sum[row] += scores[i] + scores[i + 1];
  }
  return raised;
}

/// P as the left operand of P V: the accumulators of S, in order, packed to 16 bits.
template <bool kBFloat16, int kCount>
__device__ __forceinline__ void pack_probabilities(uint32 (&packed)[kCount / 2], const float (&scores)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) packed[i] = ptx::pack<kBFloat16>(scores[2 * i], scores[2 * i + 1]);
}

/// output *= factor, row by row.
template <int kCount>
__device__ __forceinline__ void scale_rows(float (&output)[kCount], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) output[i] *= factor[(i >> 1) & 1];
}

/// Adds up the four threads' parts of each row's sum.
__device__ __forceinline__ void finish_sums(SoftmaxState& state) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    state.sum[row] += ptx::exchange(state.sum[row], 1);
    state.sum[row] += ptx::exchange(state.sum[row], 2);
  }
}

/// log2(exp2(a) + exp2(b))
__device__ __forceinline__ float log2_fast_sum(float a, float b) {
  return ptx::log2_fast(ptx::exp2_fast(a) + ptx::exp2_fast(b));
}

/// Adds exp(logit) to the denominator of rows that see a key, given in powers of two (logit * log2(e)). Returns what
/// the output must be multiplied by.
__device__ __forceinline__ float add_sink(float& log2_denominator, float sink) {
  if (log2_denominator == minus_infinity()) return 1.0f;
  const float bound = fmaxf(log2_denominator, sink);
  const float joint = bound + log2_fast_sum(log2_denominator - bound, sink - bound);
  const float factor = ptx::exp2_fast(log2_denominator - joint);
  log2_denominator = joint;
  return factor;
}

/// Adds exp(0) for each of `pruned` keys to the denominator of rows that see a key. Returns what the output must be
/// multiplied by.
__device__ __forceinline__ float add_pruned(float& log2_denominator, int pruned) {
  return pruned > 0 ? add_sink(log2_denominator, ptx::log2_fast(static_cast<float>(pruned))) : 1.0f;
}

}  // namespace harrier
