#include "compiler/passes/differentiate.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "ir/error.h"
#include "ir/match.h"

namespace harrier {
namespace {

std::optional<double> literal_of(const Expression& expression) {
  const auto* literal = std::get_if<FloatLiteral>(&expression.node);
  return literal == nullptr ? std::nullopt : std::optional(literal->value);
}

bool is_literal(const Expression& expression, double value) { return literal_of(expression) == value; }

Expression zero() { return constant(0.0); }

// The identities that keep slopes small: 0 and 1 vanish, signs move outwards, numbers are folded.

Expression negated(const Expression& x) {
  if (const std::optional<double> value = literal_of(x)) return constant(*value == 0 ? 0.0 : -*value);
  const auto* inner = std::get_if<Unary>(&x.node);
  if (inner != nullptr && inner->kind == UnaryKind::kNegate) return *inner->operand;
  return unary(UnaryKind::kNegate, x);
}

Expression sum(const Expression& x, const Expression& y) {
  if (is_literal(x, 0)) return y;
  if (is_literal(y, 0)) return x;
  if (literal_of(x) && literal_of(y)) return constant(*literal_of(x) + *literal_of(y));
  return x + y;
}

Expression difference(const Expression& x, const Expression& y) {
  if (is_literal(y, 0)) return x;
  if (is_literal(x, 0)) return negated(y);
  if (literal_of(x) && literal_of(y)) return constant(*literal_of(x) - *literal_of(y));
  return x - y;
}

Expression product(const Expression& x, const Expression& y) {
  if (is_literal(x, 0) || is_literal(y, 0)) return zero();
  // An integer needs the number beside it to become a float.
  const bool are_floats = type_of(x) == ExpressionType::kFloat && type_of(y) == ExpressionType::kFloat;
  if (are_floats && is_literal(x, 1)) return y;
  if (are_floats && is_literal(y, 1)) return x;
  if (are_floats && is_literal(x, -1)) return negated(y);
  if (are_floats && is_literal(y, -1)) return negated(x);
  if (literal_of(x) && literal_of(y)) return constant(*literal_of(x) * *literal_of(y));
  return x * y;
}

Expression quotient(const Expression& x, const Expression& y) {
  if (is_literal(x, 0)) return zero();
  if (is_literal(y, 1)) return x;
  return x / y;
}

Expression choice(const Expression& condition, const Expression& if_true, const Expression& if_false) {
  return if_true == if_false ? if_true : select(condition, if_true, if_false);
}

/// dx / divisor, and 0 where dx is: there the divisor may be 0 as well.
Expression slope_over(const Expression& dx, const Expression& divisor) {
  const Expression ratio = quotient(dx, divisor);
  return literal_of(dx) ? ratio : select(equal(dx, zero()), zero(), ratio);
}

Expression derivative_of(const Unary& node, const Expression& variable) {
  const Expression dx = derivative(*node.operand, variable);
  if (is_literal(dx, 0)) return zero();
  for (const UnarySlopeRule& rule : unary_slope_rules()) {
    if (rule.kind == node.kind) return rule.apply(*node.operand, dx);
  }
  raise_internal_error(__FILE__, __LINE__, "a unary operator that gives floats has no slope rule");
}

Expression derivative_of(const Binary& node, const Expression& variable) {
  const Expression dx = derivative(*node.left, variable);
  const Expression dy = derivative(*node.right, variable);
  if (is_literal(dx, 0) && is_literal(dy, 0)) return zero();
  for (const BinarySlopeRule& rule : binary_slope_rules()) {
    if (rule.kind == node.kind) return rule.apply(*node.left, dx, *node.right, dy);
  }
  raise_internal_error(__FILE__, __LINE__, "a binary operator that gives floats has no slope rule");
}

/// Appends every float load that the value of `expression` may depend on smoothly, each once, in order of appearance.
void collect_loads(const Expression& expression, std::vector<Load>& loads) {
  if (type_of(expression) != ExpressionType::kFloat) return;
  match(
      expression.node,
      [&](const Load& load) {
        if (std::ranges::find(loads, load) == loads.end()) loads.push_back(load);
      },
      [&](const Unary& node) { collect_loads(*node.operand, loads); },
      [&](const Binary& node) {
        collect_loads(*node.left, loads);
        collect_loads(*node.right, loads);
      },
      [&](const Select& node) {
        collect_loads(*node.if_true, loads);
        collect_loads(*node.if_false, loads);
      },
      [](const auto&) {});
}

}  // namespace

const std::vector<UnarySlopeRule>& unary_slope_rules() {
  using E = Expression;
  static const std::vector<UnarySlopeRule> kRules = {
      {UnaryKind::kNegate, "d (-x) = -dx", [](const E&, const E& dx) { return negated(dx); }},
      {UnaryKind::kAbs, "d abs(x) = x < 0 ? -dx : dx",
       [](const E& x, const E& dx) { return choice(x < zero(), negated(dx), dx); }},
      {UnaryKind::kExp, "d exp(x) = exp(x) dx",
       [](const E& x, const E& dx) { return product(unary(UnaryKind::kExp, x), dx); }},
      {UnaryKind::kLog, "d log(x) = dx / x", [](const E& x, const E& dx) { return slope_over(dx, x); }},
      {UnaryKind::kSqrt, "d sqrt(x) = dx / (2 sqrt(x))",
       [](const E& x, const E& dx) { return slope_over(dx, constant(2.0) * unary(UnaryKind::kSqrt, x)); }},
      {UnaryKind::kTanh, "d tanh(x) = (1 - tanh(x)^2) dx",
       [](const E& x, const E& dx) {
         const E bounded = unary(UnaryKind::kTanh, x);
         return product(constant(1.0) - bounded * bounded, dx);
       }},
  };
  return kRules;
}

const std::vector<BinarySlopeRule>& binary_slope_rules() {
  using E = Expression;
  static const std::vector<BinarySlopeRule> kRules = {
      {BinaryKind::kAdd, "d (x + y) = dx + dy",
       [](const E&, const E& dx, const E&, const E& dy) { return sum(dx, dy); }},
      {BinaryKind::kSubtract, "d (x - y) = dx - dy",
       [](const E&, const E& dx, const E&, const E& dy) { return difference(dx, dy); }},
      {BinaryKind::kMultiply, "d (x y) = dx y + dy x",
       [](const E& x, const E& dx, const E& y, const E& dy) { return sum(product(dx, y), product(dy, x)); }},
      {BinaryKind::kDivide, "d (x / y) = (dx y - dy x) / (y y)",
       [](const E& x, const E& dx, const E& y, const E& dy) {
         if (is_literal(dy, 0)) return quotient(dx, y);
         return quotient(difference(product(dx, y), product(dy, x)), y * y);
       }},
      {BinaryKind::kMin, "d min(x, y) = y < x ? dy : dx",
       [](const E& x, const E& dx, const E& y, const E& dy) { return choice(y < x, dy, dx); }},
      {BinaryKind::kMax, "d max(x, y) = y > x ? dy : dx",
       [](const E& x, const E& dx, const E& y, const E& dy) { return choice(y > x, dy, dx); }},
  };
  return kRules;
}

Expression derivative(const Expression& expression, const Expression& variable) {
  if (expression == variable) return constant(1.0);
  if (type_of(expression) != ExpressionType::kFloat) return zero();
  return match(
      expression.node, [&](const Unary& node) { return derivative_of(node, variable); },
      [&](const Binary& node) { return derivative_of(node, variable); },
      [&](const Select& node) {
        return choice(*node.condition, derivative(*node.if_true, variable), derivative(*node.if_false, variable));
      },
      [](const auto&) { return zero(); });
}

ScoreSlopes differentiate(const LoweredPattern& lowered) {
  ScoreSlopes slopes{.in_dot = derivative(lowered.score, var::s()), .in_loads = {}};
  std::vector<Load> loads;
  collect_loads(lowered.score, loads);
  for (Load& load : loads) {
    Expression slope = derivative(lowered.score, {load});
    slopes.in_loads.push_back({.load = std::move(load), .slope = std::move(slope)});
  }
  return slopes;
}

}  // namespace harrier
