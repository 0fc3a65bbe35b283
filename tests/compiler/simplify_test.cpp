#include "compiler/passes/simplify.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "block_atoms.h"
#include "ir/match.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "support/oracle.h"
#include "support/random_pattern.h"

namespace harrier {
namespace {

constexpr int64_t kLargestGrid = 7;
constexpr int64_t kHeads = 2;

/// Every grid of 0 to 7 queries by 0 to 7 keys, as one batch; BigBird takes the square ones only.
Geometry all_small_grids(bool squares_only) {
  std::vector<int64_t> query_lengths, key_lengths;
  for (int64_t queries = 0; queries <= kLargestGrid; ++queries) {
    for (int64_t keys = 0; keys <= kLargestGrid; ++keys) {
      if (squares_only && queries != keys) continue;
      query_lengths.push_back(queries);
      key_lengths.push_back(keys);
    }
  }
  return packed_geometry(query_lengths, key_lengths);
}

/// Both masks count every pair of every small grid alike, `left`'s arrays bound to random contents.
void expect_equal_multiplicity(const Mask& left, const Mask& right, std::mt19937_64& random) {
  const Geometry geometry = all_small_grids(has_bigbird(left));
  Shape shape;
  shape.heads = kHeads;
  Pattern pattern;
  pattern.mask = left;
  const RandomArrays arrays = random_arrays(random, pattern, shape, geometry);
  for (int64_t b = 0; b < std::ssize(geometry.sequences); ++b) {
    for (int64_t h = 0; h < kHeads; ++h) {
      ASSERT_EQ(oracle::multiplicities(left, b, h, geometry, arrays.bindings, kHeads),
                oracle::multiplicities(right, b, h, geometry, arrays.bindings, kHeads))
          << print(left) << "  against  " << print(right) << "  at " << geometry.sequences[b].query_length << " x "
          << geometry.sequences[b].key_length << ", head " << h;
    }
  }
}

/// The mask and all masks inside it.
void collect_nodes(const Mask& mask, std::vector<Mask>& nodes) {
  nodes.push_back(mask);
  match(
      mask.node,
      [&](const And& node) {
        for (const Mask& operand : node.operands) collect_nodes(operand, nodes);
      },
      [&](const Or& node) {
        for (const Mask& operand : node.operands) collect_nodes(operand, nodes);
      },
      [&](const Not& node) { collect_nodes(*node.operand, nodes); }, [](const auto&) {});
}

Mask bands() { return dilated(5, 5, 2); }
Mask counted() { return blocks(2, "counts", true); }

/// What each rule is there for, and its near misses with counted operands.
std::vector<Mask> examples() {
  return {
      Mask{And{{Mask{And{{bits("x"), bands()}}}, sink(2)}}},
      Mask{Or{{Mask{Or{{bits("x"), bands()}}}, sink(2)}}},
      sink(2) & bands(),
      sink(2) | bands(),
      bands() & all(),
      bands() | none(),
      bands() & none(),
      bands() | all(),
      counted() | all(),
      bands() & bands(),
      counted() & counted(),
      bands() | bands(),
      counted() | counted(),
      bands() & ~bands(),
      counted() & ~counted(),
      bands() | ~bands(),
      counted() | ~counted(),
      bands() & (bands() | sink(3)),
      counted() & (counted() | sink(3)),
      sink(3) & (counted() | sink(3)),
      bands() | (bands() & sink(3)),
      sink(3) | (counted() & sink(3)),
      ~all(),
      ~none(),
      ~~bands(),
      ~~counted(),
      ~bands() & ~sink(2),
      ~bands() | ~counted(),
      ~(~bands() | sink(2)),
      ~(~bands() & sink(2)),
      ~(~counted() | ~sink(2)),
      causal(),
      window(kUnbounded, kUnbounded),
      dilated(3, 0, 1),
      sink(0),
      global_tokens(0),
      global_tokens(3, GlobalSide::kKeys),
      where(constant(int64_t{0})),
      where(constant(int64_t{-2})),
      window(3, kUnbounded) & window(5, 0),
      window(3, 1) | window(2, 4),
      bands() & window(2, kUnbounded),
      sink(2) & sink(4),
      sink(2) | sink(4),
  };
}

/// Small enough for several thousand masks on all grids, rich enough that every rule fires.
Mask draw_mask(std::mt19937_64& random) { return random_mask(random, {.max_depth = 3, .block_sizes = {1, 2, 3}}); }

TEST(Simplify, EveryRuleKeepsTheMultiplicityOfEveryPair) {
  std::mt19937_64 random(20260731);
  SCOPED_TRACE("seed 20260731");
  std::vector<Mask> nodes;
  for (const Mask& example : examples()) collect_nodes(example, nodes);
  for (int i = 0; i < 1500; ++i) collect_nodes(draw_mask(random), nodes);
  std::map<std::string, int> fired;
  for (const Mask& node : nodes) {
    for (const MaskRule& rule : mask_rules()) {
      const std::optional<Mask> simpler = rule.apply(node);
      if (!simpler) continue;
      SCOPED_TRACE(rule.name);
      EXPECT_LE(node_count(*simpler), node_count(node)) << print(node);
      EXPECT_FALSE(*simpler == node) << print(node);
      // A few hundred masks for one rule prove no more than these.
      if (++fired[rule.name] > 40) continue;
      expect_equal_multiplicity(node, *simpler, random);
      if (HasFatalFailure()) return;
    }
  }
  for (const MaskRule& rule : mask_rules()) EXPECT_GT(fired[rule.name], 0) << rule.name << " never fires";
}

TEST(Simplify, KeepsMultiplicityAndVerifiesAndIsIdempotentAndNeverGrows) {
  std::mt19937_64 random(4711);
  SCOPED_TRACE("seed 4711");
  for (int i = 0; i < 1500; ++i) {
    const Mask mask = draw_mask(random);
    const Mask simplified = simplify(mask);
    SCOPED_TRACE(print(mask) + "  ->  " + print(simplified));
    ASSERT_LE(node_count(simplified), node_count(mask));
    ASSERT_EQ(simplify(simplified), simplified);
    ASSERT_NO_THROW(verify(simplified));
    expect_equal_multiplicity(mask, simplified, random);
    if (HasFatalFailure()) return;
  }
}

TEST(Simplify, WritesMasksThatDifferInOrderAlike) {
  EXPECT_EQ(print(simplify(sink(4) | (causal() & window(8, 8)))), print(simplify((window(8, 8) & causal()) | sink(4))));
  EXPECT_EQ(print(simplify(bits("x") & (bits("y") & bands()))), print(simplify(bands() & bits("x") & bits("y"))));
}

TEST(Simplify, ReducesWhatUsersWrite) {
  EXPECT_EQ(simplify(causal() & window(256, 0)), window(256, 0));
  EXPECT_EQ(simplify(causal() & window(256, kUnbounded)), window(256, 0));
  EXPECT_EQ(simplify(all() & causal()), window(kUnbounded, 0));
  EXPECT_EQ(simplify(~(~sink(4) & ~prefix(9))), sink(9));
  EXPECT_EQ(simplify(window(9, 9) & ~all()), none());
  EXPECT_EQ(simplify(window(kUnbounded, 3) | window(0, kUnbounded)), all());
}

TEST(Simplify, KeepsCountsThatMultiply) {
  EXPECT_EQ(simplify(counted() & counted()), counted() & counted());
  EXPECT_EQ(simplify(~~counted()), ~~counted());
  EXPECT_EQ(simplify(~~~counted()), ~counted());
  EXPECT_EQ(node_count(simplify(counted() | all())), 3);
}

TEST(Simplify, LeavesBigBirdAlone) {
  const Mask zero = bigbird(64, 3, BigBirdZero{});
  EXPECT_EQ(simplify(zero), zero);
  EXPECT_EQ(simplify(zero & zero), zero & zero);
}

TEST(Simplify, TouchesOnlyTheMaskOfAPattern) {
  Pattern pattern;
  pattern.mask = causal() & all();
  pattern.score.scale = 0.5;
  pattern.padding = PaddingAdditive{-10000};
  Pattern expected = pattern;
  expected.mask = window(kUnbounded, 0);
  EXPECT_EQ(simplify(pattern), expected);
}

TEST(Simplify, ManyOperandsStayCheap) {
  Mask mask = sink(1);
  for (int64_t i = 0; i < 2000; ++i) mask = std::move(mask) | window(i % 50, i % 31);
  EXPECT_EQ(simplify(mask), sink(1) | window(49, 30));
}

}  // namespace
}  // namespace harrier
