// A few queries of an attention in double precision, on the host: what the tuner holds the default kernel against.
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

/// Whether `sampled_reference` knows the pattern: packed sequences, scores that are scaled and capped and nothing else,
/// the usual softmax.
bool has_sampled_reference(const Pattern& pattern);

/// The query's output, [head][column]. Keys come from exact intervals of the mask, not from tiles.
std::vector<float> sampled_reference(const Workload& workload, const BoundPattern& bound, const Geometry& geometry,
                                     const ReferenceInputs& inputs);

}  // namespace harrier
