#include "compiler/passes/lower_pattern.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "block_atoms.h"
#include "compiler/bind.h"
#include "ir/error.h"
#include "ir/text.h"
#include "lowered_interpreter.h"
#include "support/oracle.h"
#include "support/random_draws.h"
#include "support/random_pattern.h"

namespace harrier {
namespace {

constexpr int64_t kHeadCount = 3;

Shape test_shape() {
  Shape shape;
  shape.heads = kHeadCount;
  shape.kv_heads = 1;
  return shape;
}

/// Calls visit(b, h, q, k) for every pair of the batch.
template <typename Visit>
void for_each_pair(const Geometry& geometry, Visit visit) {
  for (int64_t b = 0; b < std::ssize(geometry.sequences); ++b) {
    for (int64_t h = 0; h < kHeadCount; ++h) {
      for (int64_t q = 0; q < geometry.sequences[b].query_length; ++q) {
        for (int64_t k = 0; k < geometry.sequences[b].key_length; ++k) visit(b, h, q, k);
      }
    }
  }
}

TEST(LowerPattern, VisibleIsTheMultiplicityOfEveryPair) {
  for (uint64_t seed = 1; seed <= 600; ++seed) {
    std::mt19937_64 random(seed);
    Pattern pattern;
    pattern.mask = random_mask(random, {.max_depth = static_cast<int>(seed % 4)});
    std::vector<Mask> tables;
    collect_tables(pattern.mask, tables);
    if (tables.size() > kMaxTableSlots || std::holds_alternative<All>(pattern.mask.node)) continue;
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, print(pattern.mask)));
    const Geometry geometry = random_geometry(random, 2, 14, has_bigbird(pattern.mask));
    const Shape shape = test_shape();
    const RandomArrays arrays = random_arrays(random, pattern, shape, geometry);
    const LoweredPattern lowered = lower_pattern(pattern, shape);
    const BoundPattern bound = harrier::bind(pattern, shape, lowered, geometry, arrays.bindings);
    ASSERT_TRUE(lowered.visible.has_value());
    EXPECT_EQ(lowered.counted, is_counted(pattern.mask));
    EXPECT_EQ(lowered.table_slots, std::ssize(tables));
    const LoweredInterpreter evaluate(lowered, bound);
    for_each_pair(geometry, [&](int64_t b, int64_t h, int64_t q, int64_t k) {
      const oracle::Position at{b, h, q, k};
      std::vector<int64_t> table_counts;
      for (const Mask& table : tables) {
        table_counts.push_back(oracle::multiplicity(table, at, geometry, arrays.bindings, kHeadCount));
      }
      const LoweredPosition position{b, h, q, k, geometry.sequences[b], 0, table_counts};
      ASSERT_EQ(evaluate(*lowered.visible, position).number,
                static_cast<double>(oracle::multiplicity(pattern.mask, at, geometry, arrays.bindings, kHeadCount)))
          << "b " << b << " h " << h << " q " << q << " k " << k << ": " << print(*lowered.visible);
    });
    if (HasFailure()) return;
  }
}

Score random_score(std::mt19937_64& random) {
  using namespace harrier::var;
  Score score;
  if (chance(random, 0.5)) score.scale = 0.375;
  if (chance(random, 0.5)) score.softcap = 1.5;
  if (chance(random, 0.5)) score.alibi = "slopes";
  if (chance(random, 0.5)) score.bias = "bias";
  if (chance(random, 0.7)) {
    score.expression = pick<Expression>(
        random, {s() + (q() - k()) * constant(0.25), select(q() > k(), s() * constant(2.0), s() / constant(3.0)),
                 unary(UnaryKind::kTanh, s()) * unary(UnaryKind::kSqrt, h() + constant(int64_t{1})),
                 binary(BinaryKind::kMax, s(), s() * constant(0.1)) - load("weights", {h()}, true),
                 s() - unary(UnaryKind::kAbs, q() - k()) / (kv_len() + constant(int64_t{1}))});
  }
  return score;
}

TEST(LowerPattern, ScoreIsTheScoreOfEveryPair) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed + 5000);
    Pattern pattern;
    pattern.score = random_score(random);
    SCOPED_TRACE(fmt::format("seed {}: {}", seed + 5000, print(pattern)));
    const Geometry geometry = random_geometry(random, 2, 8, false);
    const Shape shape = test_shape();
    const RandomArrays arrays = random_arrays(random, pattern, shape, geometry);
    const LoweredPattern lowered = lower_pattern(pattern, shape);
    const BoundPattern bound = harrier::bind(pattern, shape, lowered, geometry, arrays.bindings);
    EXPECT_EQ(type_of(lowered.score), ExpressionType::kFloat);
    const LoweredInterpreter evaluate(lowered, bound);
    std::normal_distribution<double> normal;
    for_each_pair(geometry, [&](int64_t b, int64_t h, int64_t q, int64_t k) {
      const double dot = normal(random) * 4;
      const double expected = oracle::score(pattern, shape, dot, {b, h, q, k}, geometry, arrays.bindings);
      const double actual = evaluate(lowered.score, {b, h, q, k, geometry.sequences[b], dot, {}}).number;
      ASSERT_NEAR(actual, expected, 1e-5 * (1 + std::abs(expected)));
    });
    if (HasFailure()) return;
  }
}

LoweredPattern lower(const Mask& mask) {
  Pattern pattern;
  pattern.mask = mask;
  return lower_pattern(pattern, Shape{});
}

TEST(LowerPattern, MasksThatDifferInNumbersShareTheirStructure) {
  const LoweredPattern narrow = lower(window(256, 0) | sink(4));
  const LoweredPattern wide = lower(window(4096, 7) | sink(64));
  EXPECT_EQ(structural_text(narrow), structural_text(wide));
  EXPECT_NE(narrow.int_values, wide.int_values);
  EXPECT_NE(structural_text(lower(window(256, 0))), structural_text(lower(window(kUnbounded, 0))))
      << "a side without limit is not compared";
}

TEST(LowerPattern, LimitsBeyond32BitsAreClamped) {
  EXPECT_EQ(lower(window(int64_t{1} << 40, 0)).int_values, (std::vector<int64_t>{2147483647, 0}));
}

TEST(LowerPattern, OnlyAllHasNoPredicate) {
  EXPECT_FALSE(lower(all()).visible.has_value());
  EXPECT_TRUE(lower(none()).visible.has_value());
  EXPECT_TRUE(lower(causal()).visible.has_value());
}

TEST(LowerPattern, UncountedMasksStayLogical) {
  const LoweredPattern lowered = lower((blocks(8, "t") & causal()) | ~bits("m") | documents("d"));
  EXPECT_EQ(type_of(lowered.visible.value()), ExpressionType::kBool);
  EXPECT_FALSE(lowered.counted);
  EXPECT_EQ(type_of(lower(blocks(8, "t", true) | sink(2)).visible.value()), ExpressionType::kInt);
}

TEST(LowerPattern, SlotsStandInOrderOfAppearanceOnceEach) {
  Pattern pattern;
  pattern.mask = (global_tokens("g") | documents("d")) & ~global_tokens("g", GlobalSide::kKeys) & bits("m") &
                 where(parse_expression("@w[b, h] > q"));
  pattern.score.bias = "bias";
  pattern.softmax = SoftmaxSinkLogit{"logits"};
  const LoweredPattern lowered = lower_pattern(pattern, Shape{});
  using enum ArraySlot::Element;
  EXPECT_EQ(lowered.arrays, (std::vector<ArraySlot>{{"g.member", kUInt8, 1},
                                                    {"d", kInt32, 1},
                                                    {"m", kUInt8, 4},
                                                    {"w", kInt32, 2},
                                                    {"bias", kFloat32, 4},
                                                    {"logits", kFloat32, 1}}));
  EXPECT_EQ(lowered.softmax, SoftmaxKind::kSinkLogit);
  EXPECT_EQ(lowered.sink_logits, "logits");
}

TEST(LowerPattern, TheDefaultScaleFollowsTheHeadDim) {
  Shape shape;
  shape.head_dim = 16;
  EXPECT_EQ(lower_pattern(Pattern{}, shape).float_values, (std::vector<double>{0.25}));
  Pattern scaled;
  scaled.score.scale = 3;
  EXPECT_EQ(lower_pattern(scaled, shape).float_values, (std::vector<double>{3}));
}

TEST(LowerPattern, RefusesMoreTablesThanAKeyRunCarries) {
  Mask mask = blocks(8, "t0");
  for (int i = 1; i < kMaxTableSlots; ++i) mask = mask | blocks(8, "t" + std::to_string(i));
  EXPECT_NO_THROW(lower(mask));
  EXPECT_THROW(lower(mask | blocks(8, "more")), InvalidInput);
}

}  // namespace
}  // namespace harrier
