#include "codegen/cuda/key_intervals.h"

#include <algorithm>
#include <cstdint>

#include "codegen/cuda/segment_bounds.h"
#include "ir/match.h"

namespace harrier {
namespace {

constexpr size_t kMostIntervals = 4;
/// Literals beyond this could wrap at 32 bits beside a position, which intervals do not imitate.
constexpr int64_t kLargestLiteral = int64_t{1} << 30;

struct Linear {
  int key = 0;
  LinearBound rest;
};

Linear scaled(Linear linear, int sign) {
  linear.key *= sign;
  linear.rest.query *= sign;
  linear.rest.constant *= sign;
  for (auto& [term_sign, term] : linear.rest.terms) term_sign *= sign;
  for (auto& [term_sign, term] : linear.rest.rising) term_sign *= sign;
  return linear;
}

Linear sum(Linear left, const Linear& right) {
  left.key += right.key;
  left.rest.query += right.rest.query;
  left.rest.constant += right.rest.constant;
  left.rest.terms.insert(left.rest.terms.end(), right.rest.terms.begin(), right.rest.terms.end());
  left.rest.rising.insert(left.rest.rising.end(), right.rest.rising.begin(), right.rest.rising.end());
  return left;
}

/// `expression` as a sum over k, q and what is uniform in a row, or nothing.
std::optional<Linear> linear_of(const Expression& expression) {
  const auto uniform = [&] {
    return std::optional<Linear>{
        {.key = 0, .rest = {.query = 0, .terms = {{1, expression}}, .rising = {}, .constant = 0}}};
  };
  return match(
      expression.node,
      [&](const IntLiteral& literal) -> std::optional<Linear> {
        if (literal.value > kLargestLiteral || literal.value < -kLargestLiteral) return std::nullopt;
        return Linear{.key = 0, .rest = {.query = 0, .terms = {}, .rising = {}, .constant = literal.value}};
      },
      [&](const Variable& variable) -> std::optional<Linear> {
        switch (variable.kind) {
          case VariableKind::kKey:
            return Linear{.key = 1, .rest = {}};
          case VariableKind::kQuery:
            return Linear{.key = 0, .rest = {.query = 1, .terms = {}, .rising = {}, .constant = 0}};
          case VariableKind::kQueryLength:
          case VariableKind::kKeyLength:
          case VariableKind::kHead:
          case VariableKind::kBatch:
            return uniform();
          default:
            return std::nullopt;
        }
      },
      [&](const Parameter& parameter) -> std::optional<Linear> {
        if (parameter.is_float) return std::nullopt;
        return uniform();
      },
      [&](const Load& node) -> std::optional<Linear> {
        if (!is_segment_bound(node.array)) return std::nullopt;
        return Linear{.key = 0, .rest = {.query = 0, .terms = {}, .rising = {{1, expression}}, .constant = 0}};
      },
      [&](const Unary& node) -> std::optional<Linear> {
        if (node.kind != UnaryKind::kNegate) return std::nullopt;
        const auto operand = linear_of(*node.operand);
        return operand ? std::optional(scaled(*operand, -1)) : std::nullopt;
      },
      [&](const Binary& node) -> std::optional<Linear> {
        if (node.kind != BinaryKind::kAdd && node.kind != BinaryKind::kSubtract) return std::nullopt;
        const auto left = linear_of(*node.left);
        const auto right = linear_of(*node.right);
        if (!left || !right) return std::nullopt;
        return sum(*left, scaled(*right, node.kind == BinaryKind::kAdd ? 1 : -1));
      },
      [](const auto&) -> std::optional<Linear> { return std::nullopt; });
}

KeyIntervals everything(bool exact) { return {.intervals = {KeyInterval{}}, .exact = exact}; }

/// What `0 <= linear` says, where it says something about k or q that intervals can hold.
KeyIntervals not_negative(Linear linear) {
  KeyIntervals result = everything(true);
  KeyInterval& interval = result.intervals.front();
  // Every rising term has the sign of `sign`: those of a bound must not make it fall.
  const auto rises = [&](int sign) {
    return std::ranges::all_of(linear.rest.rising, [&](const auto& term) { return term.first == sign; });
  };
  if (linear.key == 0 && !linear.rest.rising.empty()) return everything(false);
  if (linear.key == 1 && (linear.rest.query == 0 || linear.rest.query == -1) && rises(-1)) {
    interval.key_lower.push_back(scaled(linear, -1).rest);  // -rest <= k
  } else if (linear.key == -1 && (linear.rest.query == 0 || linear.rest.query == 1) && rises(1)) {
    ++linear.rest.constant;
    interval.key_upper.push_back(linear.rest);  // k < rest + 1
  } else if (linear.key == 0 && linear.rest.query == 1) {
    linear.rest.query = 0;
    interval.query_lower.push_back(scaled(linear, -1).rest);
  } else if (linear.key == 0 && linear.rest.query == -1) {
    linear.rest.query = 0;
    ++linear.rest.constant;
    interval.query_upper.push_back(linear.rest);
  } else if (linear.key == 0 && linear.rest.query == 0 && linear.rest.terms.empty()) {
    if (linear.rest.constant < 0) result.intervals.clear();
  } else {
    return everything(false);
  }
  return result;
}

void append(std::vector<LinearBound>& to, const std::vector<LinearBound>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

KeyIntervals intersection(const KeyIntervals& left, const KeyIntervals& right) {
  KeyIntervals result{.intervals = {}, .exact = left.exact && right.exact};
  for (const KeyInterval& a : left.intervals) {
    for (const KeyInterval& b : right.intervals) {
      KeyInterval both = a;
      append(both.key_lower, b.key_lower);
      append(both.key_upper, b.key_upper);
      append(both.query_lower, b.query_lower);
      append(both.query_upper, b.query_upper);
      result.intervals.push_back(std::move(both));
    }
  }
  return result.intervals.size() > kMostIntervals ? everything(false) : result;
}

KeyIntervals united(KeyIntervals left, const KeyIntervals& right) {
  left.intervals.insert(left.intervals.end(), right.intervals.begin(), right.intervals.end());
  left.exact = left.exact && right.exact;
  return left.intervals.size() > kMostIntervals ? everything(false) : left;
}

KeyIntervals intervals_of(const Expression& condition, bool negated);

/// left < right, or with `or_equal` left <= right, or the negation of that.
KeyIntervals less(const Expression& left, const Expression& right, bool or_equal, bool negated) {
  if (negated) return less(right, left, !or_equal, false);
  const auto a = linear_of(left);
  const auto b = linear_of(right);
  if (!a || !b) return everything(false);
  Linear difference = sum(*b, scaled(*a, -1));
  if (!or_equal) --difference.rest.constant;
  return not_negative(std::move(difference));
}

KeyIntervals intervals_of(const Binary& node, bool negated) {
  switch (node.kind) {
    case BinaryKind::kLess:
    case BinaryKind::kLessEqual:
      return less(*node.left, *node.right, node.kind == BinaryKind::kLessEqual, negated);
    case BinaryKind::kGreater:
    case BinaryKind::kGreaterEqual:
      return less(*node.right, *node.left, node.kind == BinaryKind::kGreaterEqual, negated);
    case BinaryKind::kEqual:
    case BinaryKind::kNotEqual: {
      const bool equal = (node.kind == BinaryKind::kEqual) != negated;
      const KeyIntervals at_most = less(*node.left, *node.right, equal, false);
      const KeyIntervals at_least = less(*node.right, *node.left, equal, false);
      return equal ? intersection(at_most, at_least) : united(at_most, at_least);
    }
    case BinaryKind::kAnd:
    case BinaryKind::kOr: {
      const bool both = (node.kind == BinaryKind::kAnd) != negated;
      const KeyIntervals left = intervals_of(*node.left, negated);
      const KeyIntervals right = intervals_of(*node.right, negated);
      return both ? intersection(left, right) : united(left, right);
    }
    case BinaryKind::kMultiply: {
      // A product of counts is zero where one of them is; one that wraps may be zero elsewhere too.
      if (negated) return everything(false);
      KeyIntervals both = intersection(intervals_of(*node.left, false), intervals_of(*node.right, false));
      both.exact = false;
      return both;
    }
    default:
      return everything(false);
  }
}

KeyIntervals intervals_of(const Select& node, bool negated) {
  return united(intersection(intervals_of(*node.condition, false), intervals_of(*node.if_true, negated)),
                intersection(intervals_of(*node.condition, true), intervals_of(*node.if_false, negated)));
}

KeyIntervals intervals_of(const Expression& condition, bool negated) {
  return match(
      condition.node, [&](const Binary& node) { return intervals_of(node, negated); },
      [&](const Select& node) { return intervals_of(node, negated); },
      [&](const IntLiteral& literal) {
        return (literal.value != 0) != negated ? everything(true) : KeyIntervals{.intervals = {}, .exact = true};
      },
      [&](const Unary& node) {
        return node.kind == UnaryKind::kNot ? intervals_of(*node.operand, !negated) : everything(false);
      },
      [](const auto&) { return everything(false); });
}

}  // namespace

KeyIntervals key_intervals(const std::optional<Expression>& visible) {
  return visible ? intervals_of(*visible, false) : everything(true);
}

}  // namespace harrier
