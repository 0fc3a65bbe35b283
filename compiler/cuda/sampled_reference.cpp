#include "compiler/cuda/sampled_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compiler/passes/mask_intervals.h"
#include "ir/error.h"

namespace harrier {
namespace {

/// A key that the query sees, and how often it counts.
struct SeenKey {
  int64_t key;
  int32_t count;
  double score;
};

double score_of(const Workload& workload, double product) {
  const Score& score = workload.pattern.score;
  const double scale = score.scale ? *score.scale : 1 / std::sqrt(static_cast<double>(workload.shape.head_dim));
  const double scaled = product * scale;
  return score.softcap ? *score.softcap * std::tanh(scaled / *score.softcap) : scaled;
}

}  // namespace

bool has_sampled_reference(const Pattern& pattern) {
  const Score& score = pattern.score;
  return score.alibi.empty() && score.bias.empty() && !score.expression &&
         std::holds_alternative<SoftmaxStandard>(pattern.softmax);
}

std::vector<float> sampled_reference(const Workload& workload, const BoundPattern& bound, const Geometry& geometry,
                                     const ReferenceInputs& inputs) {
  const Shape& shape = workload.shape;
  MaskIntervals intervals(workload.pattern.mask, bound, geometry);
  const int64_t heads_per_kv_head = shape.heads / shape.kv_heads;
  std::vector<float> out(static_cast<size_t>(shape.heads * shape.value_dim));
  std::vector<SeenKey> seen;
  for (int64_t head = 0; head < shape.heads; ++head) {
    const int64_t kv_head = head / heads_per_kv_head;
    seen.clear();
    double most = -std::numeric_limits<double>::infinity();
    const IntervalSet& visible = intervals.over(
        {.batch = inputs.batch, .head = head, .q_begin = inputs.query, .q_end = inputs.query + 1, .leaf_keys = 1});
    HARRIER_CHECK(is_exact(visible), "the keys of a single query are known exactly");
    for (const CountedInterval& interval : visible) {
      for (int64_t key = interval.begin; key < interval.end; ++key) {
        const float* q = inputs.q + head * shape.head_dim;
        const float* k = inputs.k + (key * shape.kv_heads + kv_head) * shape.head_dim;
        double product = 0;
        for (int64_t i = 0; i < shape.head_dim; ++i) product += double{q[i]} * double{k[i]};
        seen.push_back({.key = key, .count = interval.low, .score = score_of(workload, product)});
        most = std::max(most, seen.back().score);
      }
    }
    double sum = 0;
    std::vector<double> values(static_cast<size_t>(shape.value_dim));
    for (const SeenKey& key : seen) {
      const double weight = key.count * std::exp(key.score - most);
      sum += weight;
      const float* v = inputs.v + (key.key * shape.kv_heads + kv_head) * shape.value_dim;
      for (size_t i = 0; i < values.size(); ++i) values[i] += weight * double{v[i]};
    }
    for (size_t i = 0; i < values.size(); ++i) {
      out[static_cast<size_t>(head * shape.value_dim) + i] = sum > 0 ? static_cast<float>(values[i] / sum) : 0.0F;
    }
  }
  return out;
}

}  // namespace harrier
