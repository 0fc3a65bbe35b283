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

/// A score, and its slope in the product q . k.
struct ScoreOf {
  double value;
  double slope;
};

ScoreOf score_of(const Workload& workload, double product) {
  const Score& score = workload.pattern.score;
  const double scale = score.scale ? *score.scale : 1 / std::sqrt(static_cast<double>(workload.shape.head_dim));
  const double scaled = product * scale;
  if (!score.softcap) return {.value = scaled, .slope = scale};
  const double tangent = std::tanh(scaled / *score.softcap);
  return {.value = *score.softcap * tangent, .slope = scale * (1 - tangent * tangent)};
}

double dot(const float* left, const float* right, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double{left[i]} * double{right[i]};
  return sum;
}

/// Sums of doubles as they are handed out.
std::vector<float> to_floats(const std::vector<double>& sums) { return {sums.begin(), sums.end()}; }

/// Of one sequence and the query heads of one key head.
class GradientSampler {
 public:
  GradientSampler(const Workload& workload, const BoundPattern& bound, const Geometry& geometry,
                  const GradientInputs& inputs)
      : workload_(workload),
        shape_(workload.shape),
        inputs_(inputs),
        group_(shape_.heads / shape_.kv_heads),
        queries_(geometry.sequences[static_cast<size_t>(inputs.batch)].query_length),
        intervals_(workload.pattern.mask, bound, geometry) {}

  SampledGradients run(const std::vector<int64_t>& queries, const std::vector<int64_t>& keys) {
    std::vector<double> d_q;
    for (const int64_t query : queries) {
      for (int64_t head = 0; head < group_; ++head) add_query(query, head, d_q);
    }
    std::vector<double> d_k(keys.size() * static_cast<size_t>(shape_.head_dim));
    std::vector<double> d_v(keys.size() * static_cast<size_t>(shape_.value_dim));
    for (int64_t head = 0; head < group_; ++head) {
      for (int64_t query = 0; query < queries_ && !keys.empty(); ++query) add_keys(query, head, keys, d_k, d_v);
    }
    return {.d_q = to_floats(d_q), .d_k = to_floats(d_k), .d_v = to_floats(d_v)};
  }

 private:
  struct Pair {
    double weight;
    double d_product;  // of q . k
  };

  const float* q(int64_t query, int64_t head) const { return inputs_.q + (query * group_ + head) * shape_.head_dim; }
  const float* d_out(int64_t query, int64_t head) const {
    return inputs_.d_out + (query * group_ + head) * shape_.value_dim;
  }
  const float* k(int64_t key) const { return inputs_.k + key * shape_.head_dim; }
  const float* v(int64_t key) const { return inputs_.v + key * shape_.value_dim; }

  const IntervalSet& seen_by(int64_t query, int64_t head) {
    const IntervalSet& visible = intervals_.over({.batch = inputs_.batch,
                                                  .head = inputs_.kv_head * group_ + head,
                                                  .q_begin = query,
                                                  .q_end = query + 1,
                                                  .leaf_keys = 1});
    HARRIER_CHECK(is_exact(visible), "the keys of a single query are known exactly");
    return visible;
  }

  double delta_of(int64_t query, int64_t head) const {
    return dot(d_out(query, head), inputs_.out + (query * group_ + head) * shape_.value_dim, shape_.value_dim);
  }

  Pair pair_of(int64_t query, int64_t head, int64_t key, int64_t count, double delta) const {
    const ScoreOf score = score_of(workload_, dot(q(query, head), k(key), shape_.head_dim));
    const double weight =
        static_cast<double>(count) * std::exp(score.value - double{inputs_.lse[head * queries_ + query]});
    const double d_weight = dot(d_out(query, head), v(key), shape_.value_dim);
    return {.weight = weight, .d_product = weight * (d_weight - delta) * score.slope};
  }

  void add_query(int64_t query, int64_t head, std::vector<double>& d_q) {
    const size_t first = d_q.size();
    d_q.resize(first + static_cast<size_t>(shape_.head_dim));
    const double delta = delta_of(query, head);
    for (const CountedInterval& interval : seen_by(query, head)) {
      for (int64_t key = interval.begin; key < interval.end; ++key) {
        const Pair pair = pair_of(query, head, key, interval.low, delta);
        for (int64_t i = 0; i < shape_.head_dim; ++i) d_q[first + static_cast<size_t>(i)] += pair.d_product * k(key)[i];
      }
    }
  }

  void add_keys(int64_t query, int64_t head, const std::vector<int64_t>& keys, std::vector<double>& d_k,
                std::vector<double>& d_v) {
    const IntervalSet& visible = seen_by(query, head);
    for (size_t place = 0; place < keys.size(); ++place) {
      const int64_t key = keys[place];
      for (const CountedInterval& interval : visible) {
        if (key < interval.begin || key >= interval.end) continue;
        const Pair pair = pair_of(query, head, key, interval.low, delta_of(query, head));
        double* const key_sums = d_k.data() + static_cast<int64_t>(place) * shape_.head_dim;
        double* const value_sums = d_v.data() + static_cast<int64_t>(place) * shape_.value_dim;
        for (int64_t i = 0; i < shape_.head_dim; ++i) key_sums[i] += pair.d_product * q(query, head)[i];
        for (int64_t i = 0; i < shape_.value_dim; ++i) value_sums[i] += pair.weight * d_out(query, head)[i];
      }
    }
  }

  const Workload& workload_;
  const Shape& shape_;
  const GradientInputs& inputs_;
  int64_t group_;
  int64_t queries_;
  MaskIntervals intervals_;
};

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
        const double product = dot(q, k, shape.head_dim);
        seen.push_back({.key = key, .count = interval.low, .score = score_of(workload, product).value});
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

SampledGradients sampled_gradients(const Workload& workload, const BoundPattern& bound, const Geometry& geometry,
                                   const GradientInputs& inputs, const std::vector<int64_t>& queries,
                                   const std::vector<int64_t>& keys) {
  return GradientSampler(workload, bound, geometry, inputs).run(queries, keys);
}

}  // namespace harrier
