// The oracle's own interpreter of expressions, and its way of reading bound arrays.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "ir/expression.h"
#include "ir/geometry.h"
#include "ir/mask.h"
#include "support/oracle.h"

namespace harrier::oracle {

/// One element of a float array.
struct Element {
  std::string array;
  int64_t index = 0;
  auto operator<=>(const Element&) const = default;
};

/// What every evaluation reads. `heads` is the number of query heads, which BigBird's draws depend on.
struct Context {
  const Geometry& geometry;
  const Bindings& bindings;
  int64_t heads;
  // Drawn BigBird tables by (seed, length, block, random), so that each is drawn once a context.
  mutable std::map<std::tuple<int64_t, int64_t, int64_t, int64_t>, std::vector<int32_t>> drawn = {};
  std::optional<Element> seed = {};  // what slopes are taken in, instead of the score
};

/// A value with its derivative in the score (or in Context::seed): `integer` counts for bool and int, `real` and
/// `slope` for float.
struct Value {
  ExpressionType type = ExpressionType::kInt;
  int64_t integer = 0;
  double real = 0;
  double slope = 0;

  double as_real() const { return type == ExpressionType::kFloat ? real : static_cast<double>(integer); }
  bool is_true() const { return type == ExpressionType::kFloat ? real != 0 : integer != 0; }
};

const ArrayView& array_of(const Context& context, const std::string& name);
int64_t int_at(const ArrayView& array, int64_t index);
double float_at(const ArrayView& array, int64_t index);

/// Element (i, j, ...) of an array with leading dimensions of 1, or none, broadcast.
int64_t broadcast_index(const ArrayView& array, const std::vector<int64_t>& position);

Value evaluate(const Expression& expression, const Context& context, const Position& at, const Value& score);

int64_t multiplicity(const Mask& mask, const Context& context, const Position& at);

/// The elements of float arrays that `expression` loads at this position, each once.
std::set<Element> loaded_elements(const Expression& expression, const Context& context, const Position& at,
                                  const Value& score);

/// Those that the score of one pair depends on.
std::set<Element> score_elements(const Pattern& pattern, const Context& context, const Position& at);

/// The score of one pair and its derivative in `dot`, or in Context::seed.
Value score(const Pattern& pattern, const Shape& shape, const Context& context, const Position& at, double dot);

}  // namespace harrier::oracle
