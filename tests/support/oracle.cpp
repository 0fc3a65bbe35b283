#include "support/oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/match.h"
#include "ir/verify.h"
#include "support/oracle_expression.h"

namespace harrier::oracle {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A key that a row attends.
struct Attended {
  int64_t k;
  int64_t count;
  double score;
  double slope;                              // of the score in q . k
  std::map<Element, double> element_slopes;  // in the float arrays that it reads
};

/// One query row: the keys it attends, and the natural logarithm of its softmax's denominator.
struct Row {
  std::vector<Attended> keys;
  double lse = -kInfinity;

  double probability(const Attended& key) const { return static_cast<double>(key.count) * std::exp(key.score - lse); }
};

struct Problem {
  const Pattern& pattern;
  const Shape& shape;
  const Geometry& geometry;
  const std::vector<double>& q;
  const std::vector<double>& k;
  const std::vector<double>& v;

  int64_t kv_head(int64_t h) const { return h / (shape.heads / shape.kv_heads); }
  int64_t q_start(int64_t token, int64_t h) const { return (token * shape.heads + h) * shape.head_dim; }
  int64_t k_start(int64_t token, int64_t h) const { return (token * shape.kv_heads + kv_head(h)) * shape.head_dim; }
  int64_t v_start(int64_t token, int64_t h) const { return (token * shape.kv_heads + kv_head(h)) * shape.value_dim; }
  int64_t out_start(int64_t token, int64_t h) const { return (token * shape.heads + h) * shape.value_dim; }
};

double dot(const std::vector<double>& left, int64_t left_start, const std::vector<double>& right, int64_t right_start,
           int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    sum += left[static_cast<size_t>(left_start + i)] * right[static_cast<size_t>(right_start + i)];
  }
  return sum;
}

void add_scaled(std::vector<double>& to, int64_t to_start, const std::vector<double>& from, int64_t from_start,
                double factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    to[static_cast<size_t>(to_start + i)] += factor * from[static_cast<size_t>(from_start + i)];
  }
}

/// The logit that the softmax of a head has beside its keys; minus infinity without one.
double sink_logit(const Pattern& pattern, const Context& context, int64_t h) {
  const auto* sink = std::get_if<SoftmaxSinkLogit>(&pattern.softmax);
  return sink == nullptr ? -kInfinity : float_at(array_of(context, sink->logits), h);
}

/// How the score moves with each element of a float array that it reads.
std::map<Element, double> element_slopes(const Problem& problem, const Context& context, const Position& at,
                                         double product) {
  std::map<Element, double> slopes;
  Context seeded = context;
  for (const Element& element : score_elements(problem.pattern, context, at)) {
    seeded.seed = element;
    slopes[element] = score(problem.pattern, problem.shape, seeded, at, product).slope;
  }
  return slopes;
}

enum class Slopes { kOfProducts, kOfArraysToo };

Row attend(const Problem& problem, const Context& context, int64_t b, int64_t h, int64_t q, Slopes slopes) {
  const Sequence& sequence = problem.geometry.sequences[static_cast<size_t>(b)];
  const bool excludes = std::holds_alternative<PaddingExcluded>(problem.pattern.padding);
  Row row;
  int64_t hidden_by_mask = 0;
  for (int64_t k = 0; k < sequence.key_length; ++k) {
    const Position at{b, h, q, k};
    const int64_t count = multiplicity(problem.pattern.mask, context, at);
    if (count == 0) {
      ++hidden_by_mask;
      continue;
    }
    if (excludes && k >= sequence.key_valid) continue;
    const double product = dot(problem.q, problem.q_start(sequence.query_token + q, h), problem.k,
                               problem.k_start(sequence.key_token + k, h), problem.shape.head_dim);
    const Value value = score(problem.pattern, problem.shape, context, at, product);
    row.keys.push_back({.k = k, .count = count, .score = value.as_real(), .slope = value.slope, .element_slopes = {}});
    if (slopes == Slopes::kOfArraysToo) {
      row.keys.back().element_slopes = element_slopes(problem, context, at, product);
    }
  }
  if (row.keys.empty()) return row;

  // Every term of the denominator as (multiplicity, exponent).
  std::vector<std::pair<double, double>> terms;
  for (const Attended& key : row.keys) terms.emplace_back(static_cast<double>(key.count), key.score);
  match(
      problem.pattern.softmax, [](const SoftmaxStandard&) {},
      [&](const SoftmaxPrunedAsZero&) {
        if (hidden_by_mask > 0) terms.emplace_back(static_cast<double>(hidden_by_mask), 0.0);
      },
      [&](const SoftmaxSinkLogit&) { terms.emplace_back(1.0, sink_logit(problem.pattern, context, h)); });
  double largest = -kInfinity;
  for (const auto& [count, exponent] : terms) largest = std::max(largest, exponent);
  if (largest == -kInfinity) return row;
  double sum = 0;
  for (const auto& [count, exponent] : terms) sum += count * std::exp(exponent - largest);
  row.lse = largest + std::log(sum);
  return row;
}

/// Calls `visit(sequence, h, q, row)` for every valid query row of every head.
template <typename Visit>
void for_each_row(const Problem& problem, const Context& context, Slopes slopes, Visit&& visit) {
  for (int64_t b = 0; b < static_cast<int64_t>(problem.geometry.sequences.size()); ++b) {
    const Sequence& sequence = problem.geometry.sequences[static_cast<size_t>(b)];
    for (int64_t h = 0; h < problem.shape.heads; ++h) {
      for (int64_t q = 0; q < sequence.query_valid; ++q) {
        const Row row = attend(problem, context, b, h, q, slopes);
        if (row.lse != -kInfinity) visit(sequence, h, q, row);
      }
    }
  }
}

std::vector<double> zeros(int64_t a, int64_t b, int64_t c) {
  return std::vector<double>(static_cast<size_t>(a * b * c));
}

}  // namespace

int64_t multiplicity(const Mask& mask, const Position& at, const Geometry& geometry, const Bindings& bindings,
                     int64_t heads) {
  return multiplicity(mask, Context{geometry, bindings, heads}, at);
}

std::vector<int64_t> multiplicities(const Mask& mask, int64_t b, int64_t h, const Geometry& geometry,
                                    const Bindings& bindings, int64_t heads) {
  const Context context{geometry, bindings, heads};
  const Sequence& sequence = geometry.sequences.at(static_cast<size_t>(b));
  std::vector<int64_t> counts;
  counts.reserve(static_cast<size_t>(sequence.query_length * sequence.key_length));
  for (int64_t q = 0; q < sequence.query_length; ++q) {
    for (int64_t k = 0; k < sequence.key_length; ++k) counts.push_back(multiplicity(mask, context, {b, h, q, k}));
  }
  return counts;
}

Value score(const Pattern& pattern, const Shape& shape, const Context& context, const Position& at, double dot) {
  const Score& rules = pattern.score;
  const Sequence& sequence = context.geometry.sequences.at(static_cast<size_t>(at.b));
  const std::optional<Element>& seed = context.seed;
  Value value{.type = ExpressionType::kFloat, .real = dot, .slope = seed ? 0.0 : 1.0};
  const double scale = rules.scale ? *rules.scale : 1 / std::sqrt(static_cast<double>(shape.head_dim));
  value.real *= scale;
  value.slope *= scale;
  if (rules.softcap) {
    const double bounded = std::tanh(value.real / *rules.softcap);
    value.real = *rules.softcap * bounded;
    value.slope *= 1 - bounded * bounded;
  }
  if (!rules.alibi.empty()) {
    const int64_t aligned = at.q + sequence.key_length - sequence.query_length;
    const auto distance = static_cast<double>(std::abs(aligned - at.k));
    value.real -= float_at(array_of(context, rules.alibi), at.h) * distance;
    if (seed == Element{rules.alibi, at.h}) value.slope -= distance;
  }
  if (!rules.bias.empty()) {
    const ArrayView& bias = array_of(context, rules.bias);
    const int64_t index = broadcast_index(bias, {at.b, at.h, at.q, at.k});
    value.real += float_at(bias, index);
    if (seed == Element{rules.bias, index}) value.slope += 1;
  }
  if (rules.expression) {
    value = evaluate(*rules.expression, context, at, value);
    value = {.type = ExpressionType::kFloat, .real = value.as_real(), .slope = value.slope};
  }
  const auto* additive = std::get_if<PaddingAdditive>(&pattern.padding);
  if (additive != nullptr && at.k >= sequence.key_valid) value.real += additive->value;
  return value;
}

std::set<Element> score_elements(const Pattern& pattern, const Context& context, const Position& at) {
  const Score& rules = pattern.score;
  std::set<Element> elements;
  if (rules.expression) elements = loaded_elements(*rules.expression, context, at, {});
  if (!rules.alibi.empty()) elements.insert({rules.alibi, at.h});
  if (!rules.bias.empty()) {
    elements.insert({rules.bias, broadcast_index(array_of(context, rules.bias), {at.b, at.h, at.q, at.k})});
  }
  return elements;
}

double score(const Pattern& pattern, const Shape& shape, double dot, const Position& at, const Geometry& geometry,
             const Bindings& bindings) {
  return score(pattern, shape, Context{geometry, bindings, shape.heads}, at, dot).as_real();
}

Forward forward(const Pattern& pattern, const Shape& shape, const Geometry& geometry, const Bindings& bindings,
                const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v) {
  const Problem problem{pattern, shape, geometry, q, k, v};
  Forward result{.out = zeros(geometry.query_tokens, shape.heads, shape.value_dim),
                 .lse = std::vector<double>(static_cast<size_t>(geometry.query_tokens * shape.heads), -kInfinity)};
  for_each_row(problem, Context{geometry, bindings, shape.heads}, Slopes::kOfProducts,
               [&](const Sequence& sequence, int64_t h, int64_t position, const Row& row) {
                 const int64_t token = sequence.query_token + position;
                 for (const Attended& key : row.keys) {
                   add_scaled(result.out, problem.out_start(token, h), v,
                              problem.v_start(sequence.key_token + key.k, h), row.probability(key), shape.value_dim);
                 }
                 result.lse[static_cast<size_t>(token * shape.heads + h)] = row.lse;
               });
  return result;
}

Backward backward(const Pattern& pattern, const Shape& shape, const Geometry& geometry, const Bindings& bindings,
                  const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v,
                  const std::vector<double>& d_out) {
  const Problem problem{pattern, shape, geometry, q, k, v};
  Backward result{.d_q = zeros(geometry.query_tokens, shape.heads, shape.head_dim),
                  .d_k = zeros(geometry.key_tokens, shape.kv_heads, shape.head_dim),
                  .d_v = zeros(geometry.key_tokens, shape.kv_heads, shape.value_dim),
                  .d_arrays = {},
                  .d_array_magnitudes = {}};
  for (const ArrayUse& use : array_uses(pattern)) {
    if (!has_gradient(use.role)) continue;
    result.d_arrays[use.name].resize(static_cast<size_t>(element_count(bindings.at(use.name).shape)));
  }
  result.d_array_magnitudes = result.d_arrays;
  const auto add_to_array = [&](const std::string& array, int64_t index, double term) {
    result.d_arrays[array][static_cast<size_t>(index)] += term;
    result.d_array_magnitudes[array][static_cast<size_t>(index)] += std::abs(term);
  };
  const Context context{geometry, bindings, shape.heads};
  for_each_row(problem, context, result.d_arrays.empty() ? Slopes::kOfProducts : Slopes::kOfArraysToo,
               [&](const Sequence& sequence, int64_t h, int64_t position, const Row& row) {
                 const int64_t q_token = sequence.query_token + position;
                 const int64_t out_start = problem.out_start(q_token, h);
                 // d_probability of each key, and its mean under the row's probabilities.
                 std::vector<double> d_probabilities;
                 double mean = 0;
                 for (const Attended& key : row.keys) {
                   const int64_t v_start = problem.v_start(sequence.key_token + key.k, h);
                   d_probabilities.push_back(dot(d_out, out_start, v, v_start, shape.value_dim));
                   mean += row.probability(key) * d_probabilities.back();
                 }
                 if (const auto* sink = std::get_if<SoftmaxSinkLogit>(&pattern.softmax)) {
                   const double probability = std::exp(sink_logit(pattern, context, h) - row.lse);
                   add_to_array(sink->logits, h, -probability * mean);
                 }
                 for (size_t i = 0; i < row.keys.size(); ++i) {
                   const Attended& key = row.keys[i];
                   const int64_t k_token = sequence.key_token + key.k;
                   const double probability = row.probability(key);
                   // A score of minus infinity has no influence, whatever its slope.
                   if (probability == 0) continue;
                   const double d_score = probability * (d_probabilities[i] - mean);
                   for (const auto& [element, slope] : key.element_slopes) {
                     add_to_array(element.array, element.index, d_score * slope);
                   }
                   const double d_dot = d_score * key.slope;
                   const int64_t q_start = problem.q_start(q_token, h);
                   const int64_t k_start = problem.k_start(k_token, h);
                   add_scaled(result.d_q, q_start, k, k_start, d_dot, shape.head_dim);
                   add_scaled(result.d_k, k_start, q, q_start, d_dot, shape.head_dim);
                   add_scaled(result.d_v, problem.v_start(k_token, h), d_out, out_start, probability, shape.value_dim);
                 }
               });
  return result;
}

}  // namespace harrier::oracle
