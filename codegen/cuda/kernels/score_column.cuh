// Applies a score expression to a transposed tile, as score_tile of mask_tile.cuh does to one of queries by keys.
#pragma once

#include "codegen/cuda/kernels/pattern.cuh"

namespace harrier {

/// Replaces q . k by the score and leaves its derivative in `slopes`. `key` and `query` are the first of the thread.
/// Queries and keys past the end of the sequence are taken for its last ones: what comes of them is hidden or never
/// stored, but arrays end where the sequence does.
template <int kQueries, class Score>
__device__ __forceinline__ void score_column(float (&scores)[kQueries / 2], float (&slopes)[kQueries / 2],
                                             const Position& at, int key, int query) {
#pragma unroll
  for (int i = 0; i < kQueries / 2; ++i) {
    const int real_query = smaller(query + 8 * (i >> 2) + (i & 1), at.query_length - 1);
    const int real_key = smaller(key + 8 * ((i >> 1) & 1), at.key_length - 1);
    slopes[i] = Score::slope(at, scores[i], real_query, real_key);
    scores[i] = Score::score(at, scores[i], real_query, real_key);
  }
}

}  // namespace harrier
