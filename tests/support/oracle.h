// The double-precision reference: quadratic, straight from the semantics in ir/mask.h and ir/pattern.h, sharing no code
// with the compiler.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier::oracle {

struct Position {
  int64_t b;
  int64_t h;
  int64_t q;
  int64_t k;
};

/// Multiplicity of one pair under the mask alone (padding is not the mask's business). `heads` is the number of query
/// heads: BigBird's seeded draws depend on it.
int64_t multiplicity(const Mask& mask, const Position& at, const Geometry& geometry, const Bindings& bindings,
                     int64_t heads = 1);

/// The same for all pairs of one sequence and head: [query_length, key_length]. Draws seeded tables once.
std::vector<int64_t> multiplicities(const Mask& mask, int64_t b, int64_t h, const Geometry& geometry,
                                    const Bindings& bindings, int64_t heads = 1);

/// The score of one pair: all of `score`, and additive padding, applied to dot = q . k.
double score(const Pattern& pattern, const Shape& shape, double dot, const Position& at, const Geometry& geometry,
             const Bindings& bindings);

/// Dense arrays in packed token order: q [query_tokens, heads, head_dim], k [key_tokens, kv_heads, head_dim], v and out
/// with value_dim, lse [query_tokens, heads]. Padded rows are tokens too.
struct Forward {
  std::vector<double> out;
  std::vector<double> lse;
};
Forward forward(const Pattern& pattern, const Shape& shape, const Geometry& geometry, const Bindings& bindings,
                const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v);

/// Gradients of sum(out * d_out) with respect to q, k, v, same layouts, and to every float array that the score or the
/// softmax reads, dense.
struct Backward {
  std::vector<double> d_q;
  std::vector<double> d_k;
  std::vector<double> d_v;
  std::map<std::string, std::vector<double>> d_arrays;
  // Sums of the absolute values of what d_arrays sums: errors of rounding grow with these.
  std::map<std::string, std::vector<double>> d_array_magnitudes;
};
Backward backward(const Pattern& pattern, const Shape& shape, const Geometry& geometry, const Bindings& bindings,
                  const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v,
                  const std::vector<double>& d_out);

}  // namespace harrier::oracle
