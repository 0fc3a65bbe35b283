// A few queries and keys of an attention in double precision, on the host: what the tuner holds the default kernel
// against.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "compiler/bind.h"
#include "ir/workload.h"

namespace harrier {

/// q of one query, k and v of all keys of its sequence, dense: [head][column], [key][kv head][column].
struct ReferenceInputs {
  int64_t batch = 0;
  int64_t query = 0;  // position in its sequence
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
};

/// Whether `sampled_reference` and `sampled_gradients` know the pattern: packed sequences, scores that are scaled and
/// capped and nothing else, the usual softmax.
bool has_sampled_reference(const Pattern& pattern);

/// The query's output, [head][column]. Keys come from exact intervals of the mask, not from tiles.
std::vector<float> sampled_reference(const Workload& workload, const BoundPattern& bound, const Geometry& geometry,
                                     const ReferenceInputs& inputs);

/// One sequence, one key head and the query heads that read it, dense: q, out and d_out [query][query head][column],
/// lse [query head][query], k and v [key][column]. `out` and `lse` are what a forward kernel wrote.
struct GradientInputs {
  int64_t batch = 0;
  int64_t kv_head = 0;
  const float* q = nullptr;
  const float* out = nullptr;
  const float* d_out = nullptr;
  const float* lse = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
};

struct SampledGradients {
  std::vector<float> d_q;  // [query of those asked for][query head][column]
  std::vector<float> d_k;  // [key of those asked for][column], as is d_v
  std::vector<float> d_v;
};

/// Gradients of some queries and some keys (positions in the sequence) of sum(out * d_out).
SampledGradients sampled_gradients(const Workload& workload, const BoundPattern& bound, const Geometry& geometry,
                                   const GradientInputs& inputs, const std::vector<int64_t>& queries,
                                   const std::vector<int64_t>& keys);

}  // namespace harrier
