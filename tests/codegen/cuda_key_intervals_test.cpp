// Intervals say the same as the expression that they came from, or hold it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "codegen/cuda/key_intervals.h"
#include "cuda_patterns.h"
#include "ir/match.h"
#include "ir/text.h"

namespace harrier {
namespace {

struct Point {
  int64_t q, k, q_len, kv_len;
  std::vector<int64_t> parameters;
};

int64_t floor_modulo(int64_t a, int64_t b) { return b == 0 ? 0 : ((a % b) + b) % b; }

int64_t value_of(const Expression& expression, const Point& at) {
  return match(
      expression.node, [](const IntLiteral& node) { return node.value; },
      [&](const Variable& node) -> int64_t {
        switch (node.kind) {
          case VariableKind::kQuery:
            return at.q;
          case VariableKind::kKey:
            return at.k;
          case VariableKind::kQueryLength:
            return at.q_len;
          case VariableKind::kKeyLength:
            return at.kv_len;
          default:
            ADD_FAILURE() << "a variable that these tests do not use";
            return 0;
        }
      },
      [&](const Parameter& node) { return at.parameters.at(static_cast<size_t>(node.index)); },
      [&](const Unary& node) -> int64_t {
        const int64_t operand = value_of(*node.operand, at);
        return node.kind == UnaryKind::kNot ? operand == 0 : -operand;
      },
      [&](const Binary& node) -> int64_t {
        const int64_t left = value_of(*node.left, at), right = value_of(*node.right, at);
        switch (node.kind) {
          case BinaryKind::kAdd:
            return left + right;
          case BinaryKind::kSubtract:
            return left - right;
          case BinaryKind::kModulo:
            return floor_modulo(left, right);
          case BinaryKind::kLess:
            return left < right;
          case BinaryKind::kLessEqual:
            return left <= right;
          case BinaryKind::kGreater:
            return left > right;
          case BinaryKind::kGreaterEqual:
            return left >= right;
          case BinaryKind::kEqual:
            return left == right;
          case BinaryKind::kNotEqual:
            return left != right;
          case BinaryKind::kAnd:
            return left != 0 && right != 0;
          case BinaryKind::kOr:
            return left != 0 || right != 0;
          default:
            ADD_FAILURE() << "an operator that these tests do not use";
            return 0;
        }
      },
      [](const auto&) -> int64_t {
        ADD_FAILURE() << "a node that these tests do not use";
        return 0;
      });
}

int64_t value_of(const LinearBound& bound, const Point& at) {
  int64_t sum = bound.query * at.q + bound.constant;
  for (const auto& [sign, term] : bound.terms) sum += sign * value_of(term, at);
  return sum;
}

bool holds(const KeyInterval& interval, const Point& at) {
  const auto all = [&](const std::vector<LinearBound>& bounds, auto allows) {
    return std::ranges::all_of(bounds, [&](const LinearBound& bound) { return allows(value_of(bound, at)); });
  };
  return all(interval.key_lower, [&](int64_t bound) { return bound <= at.k; }) &&
         all(interval.key_upper, [&](int64_t bound) { return at.k < bound; }) &&
         all(interval.query_lower, [&](int64_t bound) { return bound <= at.q; }) &&
         all(interval.query_upper, [&](int64_t bound) { return at.q < bound; });
}

void expect_same(const Expression& visible, bool exact) {
  const KeyIntervals keys = key_intervals(visible);
  EXPECT_EQ(keys.exact, exact) << print(visible);
  EXPECT_LE(keys.intervals.size(), 4u);
  for (int64_t q_len : {1, 7, 12}) {
    for (int64_t kv_len : {1, 5, 12}) {
      for (const auto& parameters : {std::vector<int64_t>{0, 0, 0}, {3, 2, 4}, {100, 0, 1}}) {
        for (int64_t q = 0; q < q_len; ++q) {
          for (int64_t k = 0; k < kv_len; ++k) {
            const Point at{q, k, q_len, kv_len, parameters};
            const bool seen = value_of(visible, at) != 0;
            const bool inside =
                std::ranges::any_of(keys.intervals, [&](const KeyInterval& interval) { return holds(interval, at); });
            ASSERT_TRUE(exact ? seen == inside : inside || !seen)
                << print(visible) << fmt::format(" at q {} k {} of {} x {}", q, k, q_len, kv_len);
          }
        }
      }
    }
  }
}

TEST(CudaKeyIntervals, HoldTheAtomsExactly) {
  expect_same(test::causal(), true);
  expect_same(test::window(), true);
  expect_same(var::k() < test::parameter(2), true);
  expect_same(test::longformer(), true);
  expect_same(!test::window(), true);
  expect_same(equal(constant(int64_t{0}), constant(int64_t{1})), true);
  expect_same(equal(constant(int64_t{0}), constant(int64_t{0})), true);
}

TEST(CudaKeyIntervals, HoldMoreThanTheySayWhereTheMaskIsNoUnionOfIntervals) {
  const Expression dilated =
      test::window() && equal((test::aligned_query() - var::k()) % test::parameter(2), constant(int64_t{0}));
  expect_same(dilated, false);
  EXPECT_EQ(key_intervals(dilated).intervals.size(), 1u) << "the window still bounds a dilated one";
  expect_same(var::k() < test::parameter(1) - var::q(), false);  // the bound falls as the query grows
}

TEST(CudaKeyIntervals, NothingWrittenIsEverything) {
  const KeyIntervals keys = key_intervals(std::nullopt);
  EXPECT_TRUE(keys.exact);
  EXPECT_EQ(keys.intervals, std::vector<KeyInterval>{KeyInterval{}});
}

Expression random_condition(std::mt19937& generator, int depth) {
  const auto draw = [&](int count) { return std::uniform_int_distribution<int>(0, count - 1)(generator); };
  if (depth > 0) {
    switch (draw(4)) {
      case 0:
        return random_condition(generator, depth - 1) && random_condition(generator, depth - 1);
      case 1:
        return random_condition(generator, depth - 1) || random_condition(generator, depth - 1);
      case 2:
        return !random_condition(generator, depth - 1);
      default:
        break;
    }
  }
  const std::vector<Expression> sides = {var::k(),           var::q(),           test::aligned_query(),
                                         test::parameter(0), test::parameter(2), constant(int64_t{draw(9) - 3}),
                                         var::kv_len()};
  const std::vector<BinaryKind> kinds = {BinaryKind::kLess,         BinaryKind::kLessEqual, BinaryKind::kGreater,
                                         BinaryKind::kGreaterEqual, BinaryKind::kEqual,     BinaryKind::kNotEqual};
  const auto side = [&] { return sides[static_cast<size_t>(draw(static_cast<int>(sides.size())))]; };
  return binary(kinds[static_cast<size_t>(draw(6))], side() + side(), side() - side());
}

TEST(CudaKeyIntervals, HoldWhatRandomConditionsShow) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937 generator(seed);
    const Expression condition = random_condition(generator, 3);
    expect_same(condition, key_intervals(condition).exact);
  }
}

}  // namespace
}  // namespace harrier
