// Applies a score expression to a transposed tile, as score_tile of mask_tile.cuh does to one of queries by keys.
#pragma once

#include "codegen/cuda/kernels/pattern.cuh"
#include "codegen/cuda/kernels/ptx.cuh"

namespace harrier {

/// Replaces q . k by the score and leaves its derivative in `slopes`, two in a word, as there are few registers. `key`
/// and `query` are the first of the thread. Queries and keys past the end of the sequence are taken for its last ones:
/// what comes of them is hidden or never stored, but arrays end where the sequence does.
template <int kQueries, bool kBFloat16, class Score>
__device__ __forceinline__ void score_column(float (&scores)[kQueries / 2], uint32 (&slopes)[kQueries / 4],
                                             const Position& at, int key, int query) {
#pragma unroll
  for (int i = 0; i < kQueries / 2; i += 2) {
    const int real_key = smaller(key + 8 * (i >> 1 & 1), at.key_length - 1);
    float slope[2];
#pragma unroll
    for (int next = 0; next < 2; ++next) {
      const int real_query = smaller(query + 8 * (i >> 2) + next, at.query_length - 1);
      slope[next] = Score::slope(at, scores[i + next], real_query, real_key);
      scores[i + next] = Score::score(at, scores[i + next], real_query, real_key);
    }
    slopes[i / 2] = ptx::pack<kBFloat16>(slope[0], slope[1]);
  }
}

/// P times slope. What is hidden has no gradient, whatever the score's slope is there.
template <bool kBFloat16, int kCount>
__device__ __forceinline__ void apply_slopes(float (&probabilities)[kCount], const uint32 (&slopes)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount; i += 2) {
    const float2 slope = ptx::unpack<kBFloat16>(slopes[i / 2]);
    probabilities[i] = probabilities[i] == 0.0f ? 0.0f : probabilities[i] * slope.x;
    probabilities[i + 1] = probabilities[i + 1] == 0.0f ? 0.0f : probabilities[i + 1] * slope.y;
  }
}

}  // namespace harrier
