// Ranges against evaluation at every point of the box.
#include "compiler/expression_range.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "ir/text.h"
#include "support/oracle_expression.h"
#include "support/random_draws.h"

namespace harrier {
namespace {

using namespace harrier::var;

constexpr Range kAnyInt{.low = std::numeric_limits<int32_t>::min(), .high = std::numeric_limits<int32_t>::max()};

/// A box of one sequence: q in [q0, q1], k in [k0, k1].
VariableRanges box_of(const Sequence& sequence, Range q, Range k) {
  return {.b = {0, 0},
          .h = {1, 1},
          .q = q,
          .k = k,
          .q_len = {sequence.query_length, sequence.query_length},
          .kv_len = {sequence.key_length, sequence.key_length},
          .q_token = {sequence.query_token + q.low, sequence.query_token + q.high},
          .k_token = {sequence.key_token + k.low, sequence.key_token + k.high}};
}

const Sequence kSequence{
    .query_length = 12, .key_length = 9, .query_valid = 12, .key_valid = 9, .query_token = 5, .key_token = 7};

/// int32 arrays of 16 and of 4 x 8 elements, as binding leaves them.
struct Arrays {
  std::vector<int32_t> line;
  std::vector<int32_t> grid;
  BoundPattern bound;

  explicit Arrays(std::mt19937_64& random) : line(64), grid(32) {
    for (int32_t& value : line) value = static_cast<int32_t>(draw(random, -4, 20));
    for (int32_t& value : grid) value = static_cast<int32_t>(draw(random, 0, 7));
    bound.views["line"] = {.data = line.data(), .type = ElementType::kInt32, .shape = {64}};
    bound.views["grid"] = {.data = grid.data(), .type = ElementType::kInt32, .shape = {4, 8}};
  }
};

Expression clamp_index(Expression index, int64_t size) {
  return binary(BinaryKind::kMax, constant(int64_t{0}), binary(BinaryKind::kMin, std::move(index), constant(size - 1)));
}

/// Any integer expression: every operator, odd literals, loads.
Expression random_expression(std::mt19937_64& random, int depth) {
  using enum BinaryKind;
  if (depth == 0 || chance(random, 0.15)) {
    if (chance(random, 0.3)) {
      return constant(pick<int64_t>(random, {0, 1, -1, 2, 3, 7, -5, 31, 33, 64, 2147483647, -2147483648, 1 << 20}));
    }
    return pick<Expression>(random, {q(), k(), b(), h(), q_len(), kv_len(), q_token(), k_token()});
  }
  const auto part = [&] { return random_expression(random, depth - 1); };
  switch (draw(random, 0, 9)) {
    case 0:
      return unary(pick<UnaryKind>(random, {UnaryKind::kNegate, UnaryKind::kNot, UnaryKind::kAbs}), part());
    case 1:
      return select(part(), part(), part());
    case 2:
      if (chance(random, 0.5)) return load("line", {clamp_index(part(), 64)});
      return load("grid", {clamp_index(part(), 4), clamp_index(part(), 8)});
    default:
      return binary(pick<BinaryKind>(random, {kAdd,  kSubtract,  kMultiply, kDivide,       kModulo,    kMin,       kMax,
                                              kLess, kLessEqual, kGreater,  kGreaterEqual, kEqual,     kNotEqual,  kAnd,
                                              kOr,   kBitAnd,    kBitOr,    kBitXor,       kShiftLeft, kShiftRight}),
                    part(), part());
  }
}

TEST(ExpressionRange, HoldsEveryValueOfTheBoxAndIsExactAtAPoint) {
  const Geometry geometry{.sequences = {kSequence}, .query_tokens = 17, .key_tokens = 16};
  int decided = 0;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    std::mt19937_64 random(seed);
    const Arrays arrays(random);
    const Bindings bindings(arrays.bound.views.begin(), arrays.bound.views.end());
    const oracle::Context context{geometry, bindings, 2};
    const Expression expression = random_expression(random, 4);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + print(expression));
    const int64_t q0 = draw(random, 0, 11);
    const int64_t k0 = draw(random, 0, 8);
    const Range q_range{.low = q0, .high = draw(random, q0, 11)};
    const Range k_range{.low = k0, .high = draw(random, k0, 8)};
    const std::optional<Range> found = range_of(expression, box_of(kSequence, q_range, k_range), arrays.bound);
    ASSERT_TRUE(found.has_value());
    const Range range = found.value_or(Range{.low = 1, .high = 0});
    if (range.low == range.high) ++decided;
    for (int64_t at_q = q_range.low; at_q <= q_range.high; ++at_q) {
      for (int64_t at_k = k_range.low; at_k <= k_range.high; ++at_k) {
        const int64_t value = oracle::evaluate(expression, context, {0, 1, at_q, at_k}, {}).integer;
        ASSERT_LE(range.low, value) << "at q = " << at_q << ", k = " << at_k;
        ASSERT_GE(range.high, value) << "at q = " << at_q << ", k = " << at_k;
        const std::optional<Range> exact =
            range_of(expression, box_of(kSequence, {at_q, at_q}, {at_k, at_k}), arrays.bound);
        ASSERT_EQ(exact, (Range{value, value})) << "at q = " << at_q << ", k = " << at_k;
      }
    }
  }
  EXPECT_GT(decided, 300) << "hardly any range was narrow";
}

Range range_in_box(const Expression& expression, Range q_range, Range k_range) {
  return range_of(expression, box_of(kSequence, q_range, k_range), {}).value_or(Range{.low = 1, .high = 0});
}

TEST(ExpressionRange, IsTightWhereTilesAreDecided) {
  const Range rows{.low = 64, .high = 127};
  const Range keys{.low = 0, .high = 31};
  EXPECT_EQ(range_in_box(q() - k(), rows, keys), (Range{33, 127}));
  EXPECT_EQ(range_in_box(q() - k() < constant(int64_t{128}), rows, keys), (Range{1, 1}));
  EXPECT_EQ(range_in_box(k() < q() && q() - k() < constant(int64_t{20}), rows, keys), (Range{0, 0}));
  EXPECT_EQ(range_in_box(equal(q() / constant(int64_t{64}), k() / constant(int64_t{64})), rows, keys), (Range{0, 0}));
  EXPECT_EQ(range_in_box(q() % constant(int64_t{64}), {70, 80}, keys), (Range{6, 16}));
  EXPECT_EQ(range_in_box(q() % constant(int64_t{64}), {60, 70}, keys), (Range{0, 63}));
}

TEST(ExpressionRange, VariablesThatMoveTogetherCancel) {
  EXPECT_EQ(range_in_box(q() - q(), {0, 11}, {0, 8}), (Range{0, 0}));
  EXPECT_EQ(range_in_box(k_token() - k(), {0, 11}, {0, 8}), (Range{7, 7}));
  EXPECT_EQ(range_in_box(k_token() - k() + q() + kv_len() - q_len(), {3, 11}, {0, 8}), (Range{7, 15}));
}

TEST(ExpressionRange, WrapsAsTheKernelDoes) {
  const Expression largest = constant(int64_t{2147483647});
  EXPECT_EQ(range_in_box(largest + constant(int64_t{1}), {0, 0}, {0, 0}), (Range{kAnyInt.low, kAnyInt.low}));
  EXPECT_EQ(range_in_box(largest + q(), {0, 1}, {0, 0}), kAnyInt);
  EXPECT_EQ(range_in_box(largest + q(), {1, 2}, {0, 0}), (Range{kAnyInt.low, kAnyInt.low + 1}));
}

TEST(ExpressionRange, LargeArraysAnswerWithTheirExtremes) {
  std::vector<int32_t> values(10000, 3);
  values[9999] = 8;
  BoundPattern bound;
  bound.views["a"] = {.data = values.data(), .type = ElementType::kInt32, .shape = {10000}};
  bound.int_extremes["a"] = {3, 8};
  const Expression read = load("a", {k()});
  const auto range = [&](int64_t low, int64_t high) {
    return range_of(read, box_of(kSequence, {0, 0}, {low, high}), bound);
  };
  EXPECT_EQ(range(0, 9999), (Range{3, 8}));
  EXPECT_EQ(range(0, 100), (Range{3, 3}));
}

TEST(ExpressionRange, SaysNothingOfFloats) {
  const BoundPattern bound;
  const VariableRanges box = box_of(kSequence, {0, 1}, {0, 1});
  EXPECT_EQ(range_of(constant(1.5) * q(), box, bound), std::nullopt);
  EXPECT_EQ(range_of(constant(1.5) * q() < k(), box, bound), (Range{0, 1}));
  EXPECT_EQ(range_of(constant(1.5) * q() < k() && constant(int64_t{0}), box, bound), (Range{0, 0}));
}

}  // namespace
}  // namespace harrier
