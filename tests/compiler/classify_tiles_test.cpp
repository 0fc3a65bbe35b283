#include "compiler/passes/classify_tiles.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "block_atoms.h"
#include "compiler/passes/choose_plan.h"
#include "compiler/passes/lower_pattern.h"
#include "ir/error.h"
#include "ir/match.h"
#include "ir/text.h"
#include "support/oracle.h"
#include "support/random_draws.h"
#include "support/random_pattern.h"

namespace harrier {
namespace {

constexpr int64_t kHeads = 2;

/// A pattern on one batch, bound to random arrays.
struct Case {
  Pattern pattern;
  Shape shape;
  Geometry geometry;
  RandomArrays arrays;
  BoundPattern bound;

  Case(Pattern the_pattern, Geometry the_geometry, std::mt19937_64& random)
      : pattern(std::move(the_pattern)), geometry(std::move(the_geometry)) {
    shape.heads = kHeads;
    shape.kv_heads = kHeads;
    arrays = random_arrays(random, pattern, shape, geometry);
    bound = harrier::bind(pattern, shape, lower_pattern(pattern, shape), geometry, arrays.bindings);
  }

  TileMap classify(int64_t tile_q, int64_t tile_k) const {
    return classify_tiles(pattern, shape, bound, geometry, tile_q, tile_k);
  }
};

Pattern pattern_of(Mask mask) {
  Pattern pattern;
  pattern.mask = std::move(mask);
  return pattern;
}

bool holds_where(const Mask& mask) {
  const auto any = [](const std::vector<Mask>& operands) { return std::ranges::any_of(operands, holds_where); };
  return match(
      mask.node, [](const Where&) { return true; }, [&](const And& node) { return any(node.operands); },
      [&](const Or& node) { return any(node.operands); }, [](const Not& node) { return holds_where(*node.operand); },
      [](const auto&) { return false; });
}

/// Multiplicities of one head of one sequence, row by row.
struct Truth {
  std::vector<int64_t> counts;
  int64_t keys;
  int64_t at(int64_t q, int64_t k) const { return counts[q * keys + k]; }
};

Truth truth_of(const Case& c, const Mask& mask, int64_t b, int64_t h) {
  return {oracle::multiplicities(mask, b, h, c.geometry, c.arrays.bindings, kHeads),
          c.geometry.sequences[b].key_length};
}

/// The keys [begin, end) are alike for queries [q_begin, q_end): their common count, or -1.
int64_t common_count(const Truth& truth, int64_t q_begin, int64_t q_end, int64_t begin, int64_t end) {
  const int64_t first = truth.at(q_begin, begin);
  for (int64_t q = q_begin; q < q_end; ++q) {
    for (int64_t k = begin; k < end; ++k) {
      if (truth.at(q, k) != first) return -1;
    }
  }
  return first;
}

/// Proves one map against brute force. `exact`: partial tiles must be needed.
void expect_sound(const Case& c, const TileMap& map, bool exact) {
  const auto* additive = std::get_if<PaddingAdditive>(&c.pattern.padding);
  const bool pruned = std::holds_alternative<SoftmaxPrunedAsZero>(c.pattern.softmax);
  std::vector<Mask> tables;
  collect_tables(c.pattern.mask, tables);
  for (int64_t b = 0; b < std::ssize(c.geometry.sequences); ++b) {
    const Sequence& sequence = c.geometry.sequences[b];
    const int64_t key_end = additive != nullptr || pruned ? sequence.key_length : sequence.key_valid;
    ASSERT_EQ(map.row_tiles(b), (sequence.query_valid + map.tile_q - 1) / map.tile_q);
    for (int64_t h = 0; h < kHeads; ++h) {
      const Truth truth = truth_of(c, c.pattern.mask, b, h);
      std::vector<Truth> table_truths;
      for (const Mask& table : tables) table_truths.push_back(truth_of(c, table, b, h));
      for (int64_t tile = 0; tile < map.row_tiles(b); ++tile) {
        const int64_t q_begin = tile * map.tile_q;
        const int64_t q_end = std::min(q_begin + map.tile_q, sequence.query_valid);
        const int64_t row = map.row_index(b, h, tile);
        SCOPED_TRACE(fmt::format("batch row {} head {} queries {} to {}", b, h, q_begin, q_end - 1));
        int64_t covered = 0;  // keys before this one are checked
        const auto expect_hidden = [&](int64_t begin, int64_t end) {
          if (begin >= end) return;
          EXPECT_EQ(common_count(truth, q_begin, q_end, begin, end), 0) << begin << ".." << end;
        };
        for (int64_t i = map.run_offsets[row]; i < map.run_offsets[row + 1]; ++i) {
          const KeyRun& run = map.runs[i];
          SCOPED_TRACE(fmt::format("run of keys {} to {}, count {}", run.begin, run.end - 1, run.count));
          ASSERT_LE(covered, run.begin);
          ASSERT_LT(run.begin, run.end);
          ASSERT_LE(run.end, key_end);
          for (const int64_t cut : {run.begin, run.end}) {
            EXPECT_TRUE(cut % map.tile_k == 0 || cut == sequence.key_valid || cut == sequence.key_length) << cut;
          }
          expect_hidden(covered, run.begin);
          covered = run.end;

          const bool in_padding = run.begin >= sequence.key_valid;
          EXPECT_TRUE(in_padding || run.end <= sequence.key_valid);
          EXPECT_EQ(run.score_add, in_padding && additive != nullptr ? static_cast<float>(additive->value) : 0.0F);
          EXPECT_EQ(run.count_only, in_padding && additive == nullptr ? 1U : 0U);
          if (run.count > 0) {
            EXPECT_EQ(run.table_counts, 0U);
            EXPECT_EQ(common_count(truth, q_begin, q_end, run.begin, run.end), run.count);
            continue;
          }
          for (size_t slot = 0; slot < tables.size(); ++slot) {
            EXPECT_EQ(common_count(table_truths[slot], q_begin, q_end, run.begin, run.end),
                      run.table_counts >> (8 * slot) & 255U);
          }
          if (!exact) continue;
          for (int64_t begin = run.begin; begin < run.end;) {
            const int64_t end = std::min((begin / map.tile_k + 1) * map.tile_k, run.end);
            EXPECT_EQ(common_count(truth, q_begin, q_end, begin, end), -1) << "needlessly partial";
            begin = end;
          }
        }
        expect_hidden(covered, key_end);
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

int64_t draw_tile(std::mt19937_64& random) { return chance(random, 0.2) ? 64 : draw(random, 1, 17); }

/// Tile sizes that the mask allows: any without block tables, else divisors of the block sizes.
std::pair<int64_t, int64_t> draw_tiles(std::mt19937_64& random, const Mask& mask) {
  std::vector<Mask> tables;
  collect_tables(mask, tables);
  if (tables.empty()) return {draw_tile(random), draw_tile(random)};
  Workload workload;
  workload.pattern.mask = mask;
  const CpuPlan plan = choose_cpu_plan(workload, {});
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= plan.tile_k; ++d) {
    if (plan.tile_k % d == 0) divisors.push_back(d);
  }
  return {pick(random, divisors), pick(random, divisors)};
}

void draw_ends(std::mt19937_64& random, Pattern& pattern) {
  if (chance(random, 0.4)) pattern.padding = PaddingAdditive{-7.5};
  if (chance(random, 0.4)) pattern.softmax = SoftmaxPrunedAsZero{};
}

TEST(ClassifyTiles, AgreesWithBruteForceOnRandomPatterns) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    std::mt19937_64 random(seed);
    Pattern pattern = pattern_of(random_mask(random, {.max_depth = static_cast<int>(seed % 4)}));
    std::vector<Mask> tables;
    collect_tables(pattern.mask, tables);
    if (tables.size() > kMaxTableSlots) continue;
    draw_ends(random, pattern);
    const auto [tile_q, tile_k] = draw_tiles(random, pattern.mask);
    SCOPED_TRACE(fmt::format("seed {}: {} tile {}x{}", seed, print(pattern.mask), tile_q, tile_k));
    const Case c(pattern, random_geometry(random, 3, 40, has_bigbird(pattern.mask)), random);
    expect_sound(c, c.classify(tile_q, tile_k), false);
    if (HasFailure()) return;
  }
}

TEST(ClassifyTiles, IsExactForEveryMaskWhenARowIsOneQuery) {
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    std::mt19937_64 random(seed + 1000);
    Pattern pattern = pattern_of(random_mask(random, {.max_depth = 2}));
    std::vector<Mask> tables;
    collect_tables(pattern.mask, tables);
    if (tables.size() > kMaxTableSlots) continue;
    draw_ends(random, pattern);
    const int64_t tile_k = holds_where(pattern.mask) ? 1 : draw_tiles(random, pattern.mask).second;
    SCOPED_TRACE(fmt::format("seed {}: {} tile 1x{}", seed + 1000, print(pattern.mask), tile_k));
    const Case c(pattern, random_geometry(random, 2, 24, has_bigbird(pattern.mask)), random);
    expect_sound(c, c.classify(1, tile_k), true);
    if (HasFailure()) return;
  }
}

TEST(ClassifyTiles, IsExactForIntervalAtomsUnderAnyTile) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    std::mt19937_64 random(seed + 2000);
    const int64_t left = draw(random, 0, 20);
    const int64_t right = draw(random, 0, 20);
    const std::vector<Mask> atoms = {all(),
                                     none(),
                                     causal(),
                                     window(left, right),
                                     window(kUnbounded, right),
                                     window(left, kUnbounded),
                                     sink(left),
                                     global_tokens(left % 6),
                                     global_tokens(left % 6, GlobalSide::kQueries),
                                     global_tokens("tokens"),
                                     global_tokens("tokens", GlobalSide::kQueries),
                                     global_tokens("tokens", GlobalSide::kKeys),
                                     documents("segment"),
                                     ~window(left, right),
                                     ~documents("segment"),
                                     bits("mask"),
                                     dilated(left, right, 1)};
    for (const Mask& atom : atoms) {
      const int64_t tile_q = draw_tile(random);
      const int64_t tile_k = draw_tile(random);
      SCOPED_TRACE(fmt::format("seed {}: {} tile {}x{}", seed + 2000, print(atom), tile_q, tile_k));
      const Case c(pattern_of(atom), random_geometry(random, 3, 50, false), random);
      expect_sound(c, c.classify(tile_q, tile_k), true);
      if (HasFailure()) return;
    }
  }
}

Geometry one_sequence(int64_t queries, int64_t keys, int64_t query_valid, int64_t key_valid) {
  return {.sequences = {{.query_length = queries,
                         .key_length = keys,
                         .query_valid = query_valid,
                         .key_valid = key_valid,
                         .query_token = 0,
                         .key_token = 0}},
          .query_tokens = queries,
          .key_tokens = keys};
}

Geometry one_sequence(int64_t length) { return one_sequence(length, length, length, length); }

KeyRun full(int64_t begin, int64_t end) { return {begin, end, 1, 0, 0.0F, 0}; }
KeyRun partial(int64_t begin, int64_t end) { return {begin, end, 0, 0, 0.0F, 0}; }

TEST(ClassifyTiles, ACausalRowIsOneFullRunAndItsDiagonalTile) {
  std::mt19937_64 random(1);
  const Case c(pattern_of(causal()), one_sequence(200), random);
  const TileMap map = c.classify(64, 64);
  EXPECT_EQ(map.heads, 1);
  EXPECT_EQ(map.first_row, (std::vector<int64_t>{0, 4}));
  EXPECT_EQ(map.runs, (std::vector<KeyRun>{partial(0, 64), full(0, 64), partial(64, 128), full(0, 128),
                                           partial(128, 192), full(0, 192), partial(192, 200)}));
  const TileCounts counts = count_tiles(map, c.geometry, kHeads);
  EXPECT_EQ(counts.empty, 2 * 6);
  EXPECT_EQ(counts.full, 2 * 6);
  EXPECT_EQ(counts.partial, 2 * 4);
}

TEST(ClassifyTiles, LongRowsOfWindowsAgreeWithBruteForce) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](int64_t low, int64_t high) {
      return std::uniform_int_distribution<int64_t>(low, high)(random);
    };
    const std::vector<Mask> masks = {
        window(draw(0, 60), draw(0, 60)),
        causal() & window(draw(0, 80), draw(0, 80)),
        window(draw(20, 80), draw(0, 20)) & ~window(draw(0, 10), draw(0, 10)),
        dilated(draw(0, 70), draw(0, 70), draw(1, 5)) | window(draw(0, 5), draw(0, 5)),
    };
    const int64_t tile_k = int64_t{1} << draw(0, 4);
    const int64_t tile_q = tile_k * draw(1, 4);
    const int64_t keys = draw(200, 400);
    const int64_t queries = draw(100, 400);
    for (size_t i = 0; i < masks.size(); ++i) {
      SCOPED_TRACE(fmt::format("seed {}: {} tile {}x{}, {} queries, {} keys", seed, print(masks[i]), tile_q, tile_k,
                               queries, keys));
      const Case c(pattern_of(masks[i]), one_sequence(queries, keys, queries, draw(keys / 2, keys)), random);
      expect_sound(c, c.classify(tile_q, tile_k), i == 0);
      if (HasFailure()) return;
    }
  }
}

TEST(ClassifyTiles, PaddingCutsRuns) {
  std::mt19937_64 random(1);
  Pattern pattern = pattern_of(all());
  const Geometry geometry = one_sequence(8, 16, 3, 10);
  EXPECT_EQ(Case(pattern, geometry, random).classify(4, 4).runs, (std::vector<KeyRun>{full(0, 10)}));
  pattern.padding = PaddingAdditive{-10000};
  EXPECT_EQ(Case(pattern, geometry, random).classify(4, 4).runs,
            (std::vector<KeyRun>{full(0, 10), {10, 16, 1, 0, -10000.0F, 0}}));
  pattern.padding = PaddingExcluded{};
  pattern.softmax = SoftmaxPrunedAsZero{};
  const Case pruned(pattern, geometry, random);
  const TileMap map = pruned.classify(4, 4);
  EXPECT_EQ(map.runs, (std::vector<KeyRun>{full(0, 10), {10, 16, 1, 0, 0.0F, 1}}));
  EXPECT_EQ(count_tiles(map, geometry, 1).full, 4) << "the tile that padding cuts in two counts once";
}

TEST(ClassifyTiles, EmptySequencesHaveNoRowsOrNoRuns) {
  std::mt19937_64 random(1);
  EXPECT_EQ(Case(pattern_of(all()), one_sequence(0), random).classify(8, 8).first_row, (std::vector<int64_t>{0, 0}));
  const Case c(pattern_of(all()), one_sequence(5, 0, 5, 0), random);
  EXPECT_EQ(c.classify(4, 4).run_offsets, (std::vector<int64_t>{0, 0, 0}));
}

TEST(ClassifyTiles, CountsOfTablesMultiplyUpToWhatAKernelCounts) {
  const Geometry geometry = one_sequence(8);
  const auto classify = [&](const Mask& mask, int32_t count) {
    const Pattern pattern = pattern_of(mask);
    const ArrayView view{.data = &count, .type = ElementType::kInt32, .shape = {1, 1, 1}};
    const Bindings bindings = {{"t", view}};
    const BoundPattern bound = harrier::bind(pattern, Shape{}, lower_pattern(pattern, Shape{}), geometry, bindings);
    return classify_tiles(pattern, Shape{}, bound, geometry, 8, 8).runs;
  };
  const Mask table = blocks(8, "t", true);
  EXPECT_EQ(classify(table & table & table & table, 215).at(0).count, 215 * 215 * 215 * 215);
  EXPECT_EQ(classify(table & table & causal(), 255).at(0).table_counts, 0xffffU);
  EXPECT_THROW(classify(table & table & table & table, 216), InvalidInput);
  EXPECT_THROW(classify(table & table & table & table & causal(), 216), InvalidInput);
}

TEST(ClassifyTiles, ATileThatSpansBlocksIsOurBug) {
  const Pattern cut = pattern_of(blocks(4, "t") & causal());
  const std::vector<int32_t> table = {1, 1, 1, 1};
  const Bindings bindings = {{"t", {.data = table.data(), .type = ElementType::kInt32, .shape = {1, 2, 2}}}};
  const Geometry geometry = one_sequence(8);
  const BoundPattern bound = harrier::bind(cut, Shape{}, lower_pattern(cut, Shape{}), geometry, bindings);
  EXPECT_THROW(classify_tiles(cut, Shape{}, bound, geometry, 8, 8), InternalError);
  EXPECT_NO_THROW(classify_tiles(cut, Shape{}, bound, geometry, 4, 4));
}

TEST(ClassifyTiles, IntervalPatternsCostNothingByLength) {
  std::mt19937_64 random(1);
  const int64_t length = int64_t{1} << 20;
  const Case c(pattern_of(window(4096, 0) | sink(4)), one_sequence(length), random);
  const TileMap map = c.classify(64, 64);
  EXPECT_EQ(map.row_tiles(0), length / 64);
  EXPECT_LE(std::ssize(map.runs), 4 * length / 64);
}

}  // namespace
}  // namespace harrier
