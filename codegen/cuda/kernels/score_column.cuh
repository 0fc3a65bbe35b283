// Applies a score expression to a transposed tile, as score_tile of mask_tile.cuh does to one of queries by keys.
#pragma once

#include "codegen/cuda/kernels/score_gradients.cuh"

namespace harrier {

/// Replaces q . k by the score and leaves its derivative in `slopes`, two in a word, as there are few registers. `key`
/// and `query` are the first of the thread.
template <int kQueries, bool kBFloat16, class Score>
__device__ __forceinline__ void score_column(float (&scores)[kQueries / 2], uint32 (&slopes)[kQueries / 4],
                                             const Position& at, int key, int query) {
#pragma unroll
  for (int i = 0; i < kQueries / 2; i += 2) {
    const int k = real_key(at, key + 8 * (i >> 1 & 1));
    float slope[2];
#pragma unroll
    for (int next = 0; next < 2; ++next) {
      const int q = real_query(at, query + 8 * (i >> 2) + next);
      slope[next] = Score::slope(at, scores[i + next], q, k);
      scores[i + next] = Score::score(at, scores[i + next], q, k);
    }
    slopes[i / 2] = ptx::pack<kBFloat16>(slope[0], slope[1]);
  }
}

/// P times slope.
template <bool kBFloat16, int kCount>
__device__ __forceinline__ void apply_slopes(float (&probabilities)[kCount], const uint32 (&slopes)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount; i += 2) {
    const float2 slope = ptx::unpack<kBFloat16>(slopes[i / 2]);
    probabilities[i] = sloped(probabilities[i], slope.x);
    probabilities[i + 1] = sloped(probabilities[i + 1], slope.y);
  }
}

}  // namespace harrier
