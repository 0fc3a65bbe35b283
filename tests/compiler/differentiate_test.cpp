// Slopes of expressions against the oracle's, which carries a derivative beside every value.
#include "compiler/passes/differentiate.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <string>

#include "compiler/passes/lower_pattern.h"
#include "ir/spelling.h"
#include "ir/text.h"
#include "support/oracle_expression.h"

namespace harrier {
namespace {

using namespace harrier::var;

/// Two learned numbers that expressions load, at the only position that the tests look at.
struct Point {
  double score;
  double gain;
  double shift;
};

struct Slope {
  double actual;
  double expected;
};

/// The slope of `expression` in `variable`, as the pass gives it and as the oracle does.
Slope slopes_at(const Expression& expression, const Expression& variable, const Point& at) {
  const Geometry geometry{.sequences = {{.query_length = 8, .key_length = 8, .query_valid = 8, .key_valid = 8}},
                          .query_tokens = 8,
                          .key_tokens = 8};
  const Bindings bindings{{"gain", {.data = &at.gain, .type = ElementType::kFloat64, .shape = {1}}},
                          {"shift", {.data = &at.shift, .type = ElementType::kFloat64, .shape = {}}}};
  oracle::Context context{geometry, bindings, 1};
  const oracle::Position position{.b = 0, .h = 0, .q = 5, .k = 3};
  oracle::Value score{.type = ExpressionType::kFloat, .real = at.score, .slope = 1};
  const Expression slope = derivative(expression, variable);
  const double actual = oracle::evaluate(slope, context, position, score).as_real();
  if (const auto* load = std::get_if<Load>(&variable.node)) {
    context.seed = oracle::Element{load->array, 0};
    score.slope = 0;
  }
  return {actual, oracle::evaluate(expression, context, position, score).slope};
}

void expect_alike(const Expression& expression, const Point& at) {
  for (const Expression& variable : {s(), load("gain", {constant(int64_t{0})}, true), load("shift", {}, true)}) {
    EXPECT_EQ(type_of(derivative(expression, variable)), ExpressionType::kFloat) << print(expression);
    const auto [actual, expected] = slopes_at(expression, variable, at);
    if (!std::isfinite(expected)) continue;  // the operators of the expression left the range of numbers
    EXPECT_NEAR(actual, expected, 1e-9 * std::max(1.0, std::abs(expected)))
        << print(expression) << " in " << print(variable) << ": " << print(derivative(expression, variable)) << " at s "
        << at.score << ", @gain " << at.gain << ", @shift " << at.shift;
  }
}

/// Numbers of a coarse grid, so that corners and equal operands are met.
double draw_number() { return static_cast<double>(*rc::gen::inRange(-8, 9)) / 2; }

Point draw_point() { return {.score = draw_number(), .gain = draw_number(), .shift = draw_number()}; }

Expression draw_condition(int depth);

/// A float expression of s and the two learned numbers.
Expression draw_expression(int depth) {
  if (depth == 0 || *rc::gen::inRange(0, 5) == 0) {
    switch (*rc::gen::inRange(0, 6)) {
      case 0:
        return load("gain", {constant(int64_t{0})}, true);
      case 1:
        return load("shift", {}, true);
      case 2:
        return constant(draw_number());
      case 3:
        return q() - k();  // an integer, which becomes a float beside one
      default:
        return s();
    }
  }
  const auto unary_count = static_cast<int>(unary_slope_rules().size());
  const auto binary_count = static_cast<int>(binary_slope_rules().size());
  const int choice = *rc::gen::inRange(0, unary_count + binary_count + 1);
  if (choice < unary_count) return unary(unary_slope_rules()[choice].kind, draw_expression(depth - 1));
  if (choice < unary_count + binary_count) {
    const BinaryKind kind = binary_slope_rules()[choice - unary_count].kind;
    const Expression left = draw_expression(depth - 1);
    return binary(kind, left, draw_expression(depth - 1));
  }
  const Expression condition = draw_condition(depth - 1);
  const Expression if_true = draw_expression(depth - 1);
  return select(condition, if_true, draw_expression(depth - 1));
}

Expression draw_condition(int depth) {
  const Expression left = draw_expression(depth);
  const Expression less = left < draw_expression(depth);
  return *rc::gen::arbitrary<bool>() ? less : less && q() > k();
}

TEST(Differentiate, EveryUnaryRuleAgreesWithTheOracle) {
  for (const UnarySlopeRule& rule : unary_slope_rules()) {
    EXPECT_TRUE(rc::check(rule.name, [&] {
      const Expression operand = draw_expression(2);
      expect_alike(unary(rule.kind, operand), draw_point());
      RC_ASSERT(!::testing::Test::HasFailure());
    }));
  }
}

TEST(Differentiate, EveryBinaryRuleAgreesWithTheOracle) {
  for (const BinarySlopeRule& rule : binary_slope_rules()) {
    EXPECT_TRUE(rc::check(rule.name, [&] {
      const Expression left = draw_expression(2);
      const Expression right = draw_expression(2);
      expect_alike(binary(rule.kind, left, right), draw_point());
      RC_ASSERT(!::testing::Test::HasFailure());
    }));
  }
}

RC_GTEST_PROP(Differentiate, ExpressionsOfAllOperatorsAgreeWithTheOracle, ()) {
  const Expression expression = draw_expression(4);
  expect_alike(expression, draw_point());
  RC_ASSERT(!::testing::Test::HasFailure());
}

TEST(Differentiate, KeepsSlopesSmall) {
  const auto slope = [](const Expression& expression) { return print(derivative(expression, s())); };
  EXPECT_EQ(slope(s()), "1.0");
  EXPECT_EQ(slope(constant(2.0) * s() + load("shift", {}, true)), "2.0");
  EXPECT_EQ(slope(constant(1.0) * (q() - k())), "0.0");
  EXPECT_EQ(slope(unary(UnaryKind::kExp, load("shift", {}, true))), "0.0");
  EXPECT_EQ(slope(s() - unary(UnaryKind::kTanh, s())), "1.0 - (1.0 - tanh(s) * tanh(s))");
  EXPECT_EQ(slope(select(q() > k(), s(), s() + constant(1.0))), "1.0");
  EXPECT_EQ(slope(select(s() > constant(0.0), constant(int64_t{1}), constant(int64_t{0}))), "0.0");
}

TEST(Differentiate, TakesOneSideAtACorner) {
  const auto at_zero = [](const Expression& expression) {
    return slopes_at(expression, s(), {.score = 0, .gain = 0, .shift = 0}).actual;
  };
  EXPECT_EQ(at_zero(unary(UnaryKind::kAbs, s())), 1);
  EXPECT_EQ(at_zero(binary(BinaryKind::kMax, s(), constant(0.0))), 1);
  EXPECT_EQ(at_zero(binary(BinaryKind::kMax, constant(0.0), s())), 0);
  EXPECT_EQ(at_zero(binary(BinaryKind::kMin, s(), constant(0.0))), 1);
  // Constant where the condition says so: the root is never divided by.
  EXPECT_EQ(at_zero(unary(UnaryKind::kSqrt, select(s() > constant(0.0), s(), constant(0.0)))), 0);
}

TEST(Differentiate, FindsEveryArrayThatAScoreReads) {
  const Workload workload = parse_workload(
      "attention learned { score softcap(2.0) alibi(@slopes) bias(@bias) "
      "score(s * @gain[h] + @gain[h] + select(@gate[h] > 0.0, @shift[q], 0.0)) }");
  const ScoreSlopes slopes = differentiate(lower_pattern(workload.pattern, workload.shape));
  ASSERT_EQ(slopes.in_loads.size(), 4U);
  EXPECT_EQ(slopes.in_loads[0].load.array, "slopes");
  EXPECT_EQ(slopes.in_loads[1].load.array, "bias");
  EXPECT_EQ(slopes.in_loads[2].load.array, "gain");
  EXPECT_EQ(slopes.in_loads[3].load.array, "shift");
  EXPECT_EQ(print(slopes.in_loads[1].slope), "@gain[h]");
  EXPECT_EQ(print(slopes.in_loads[3].slope), "select(@gate[h] > 0.0, 1.0, 0.0)");
}

}  // namespace
}  // namespace harrier
