#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "block_atoms.h"
#include "compiler/harrier.h"
#include "compiler/passes/lower_pattern.h"
#include "support/oracle.h"
#include "support/random_draws.h"
#include "support/random_pattern.h"

namespace harrier {
namespace {

Geometry one_sequence(int64_t length) {
  return {.sequences = {{.query_length = length,
                         .key_length = length,
                         .query_valid = length,
                         .key_valid = length,
                         .query_token = 0,
                         .key_token = 0}},
          .query_tokens = length,
          .key_tokens = length};
}

int64_t count(const Mask& mask, int64_t length, int64_t heads, const Bindings& bindings = {}) {
  Pattern pattern;
  pattern.mask = mask;
  Shape shape;
  shape.heads = heads;
  return count_visible_pairs(pattern, shape, one_sequence(length), bindings);
}

TEST(VisiblePairs, AreThoseThatBruteForceCounts) {
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    std::mt19937_64 random(seed);
    Pattern pattern;
    pattern.mask = random_mask(random, {.max_depth = static_cast<int>(seed % 4)});
    if (chance(random, 0.5)) pattern.padding = PaddingAdditive{-1};
    std::vector<Mask> tables;
    collect_tables(pattern.mask, tables);
    if (tables.size() > kMaxTableSlots) continue;
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, print(pattern)));
    const Geometry geometry = random_geometry(random, 3, 30, has_bigbird(pattern.mask));
    Shape shape;
    shape.heads = 2;
    const RandomArrays arrays = random_arrays(random, pattern, shape, geometry);
    int64_t expected = 0;
    for (int64_t b = 0; b < std::ssize(geometry.sequences); ++b) {
      const Sequence& sequence = geometry.sequences[b];
      const bool sees_padding = std::holds_alternative<PaddingAdditive>(pattern.padding);
      const int64_t keys = sees_padding ? sequence.key_length : sequence.key_valid;
      for (int64_t h = 0; h < shape.heads; ++h) {
        const std::vector<int64_t> counts =
            oracle::multiplicities(pattern.mask, b, h, geometry, arrays.bindings, shape.heads);
        for (int64_t q = 0; q < sequence.query_valid; ++q) {
          for (int64_t k = 0; k < keys; ++k) expected += counts[q * sequence.key_length + k];
        }
      }
    }
    ASSERT_EQ(count_visible_pairs(pattern, shape, geometry, arrays.bindings), expected);
  }
}

TEST(VisiblePairs, OfLongSequencesFollowTheirFormula) {
  const int64_t n = int64_t{1} << 20;
  EXPECT_EQ(count(all(), n, 3), 3 * n * n) << "more than 2^31 pairs";
  EXPECT_EQ(count(causal(), n, 1), n * (n + 1) / 2);
  EXPECT_EQ(count(window(255, 0), n, 12), 12 * (256 * n - 255 * 256 / 2));
  EXPECT_EQ(count(none(), n, 1), 0);
}

TEST(VisiblePairs, CountRepeatedBlocksEachTime) {
  // Eight blocks of 4: two global rows see 32 keys once; rows 1 and 6 see 4 blocks, rows 2 to 5 see 5, and block 0
  // twice more.
  EXPECT_EQ(count(bigbird(4, 2, BigBirdZero{}), 32, 1), 4 * (2 * 32 + 2 * (4 + 2) * 4 + 4 * (5 + 2) * 4));
}

}  // namespace
}  // namespace harrier
