// Lists that the generated builder makes on the device say what the mask says, pair by pair.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "builder_case.h"
#include "support/attention_case.h"
#include "support/oracle.h"
#include "support/random_draws.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using test::BuilderCase, test::BuiltRows, test::ListedRow;

/// Places of a row: among lists, and among all rows.
struct Places {
  int64_t list;
  int64_t row;
};

Places places_of(const BuiltRows& built, int64_t batch, int64_t head, int64_t tile, const Sequence& sequence) {
  const auto first = [&](int rows_per_batch) {
    return first_row(rows_per_batch, static_cast<int>(batch), static_cast<int>(sequence.query_token),
                     built.row_queries);
  };
  return {first(built.list_rows_per_batch) + tile + head * built.list_rows_per_head,
          first(built.rows_per_batch) + tile + head * built.places};
}

/// What the oracle says of one row.
struct Expected {
  const std::vector<int64_t>& multiplicities;  // [queries of the sequence][keys]
  const Sequence& sequence;
  int64_t query_begin;
  int64_t query_end;
  int64_t key_end;  // keys that may be attended

  int64_t at(int64_t query, int64_t key) const { return multiplicities[query * sequence.key_length + key]; }
  bool any(int64_t begin, int64_t end) const {
    for (int64_t q = query_begin; q < query_end; ++q) {
      for (int64_t k = begin; k < std::min(end, key_end); ++k) {
        if (at(q, k) != 0) return true;
      }
    }
    return false;
  }
  bool every_once(int64_t begin, int64_t end) const {
    if (end > sequence.key_valid) return false;
    for (int64_t q = query_begin; q < query_end; ++q) {
      for (int64_t k = begin; k < end; ++k) {
        if (at(q, k) != 1) return false;
      }
    }
    return true;
  }
};

void expect_row(const BuilderCase& test, const BuiltRows& built, const ListedRow& row, const Expected& expected) {
  const int boxes_a_tile = test.plan.tile_k / test.plan.box_rows;
  ASSERT_EQ(row.entries.size() % static_cast<size_t>(boxes_a_tile), 0u);
  std::vector<int> partial, full;
  size_t i = 0;
  while (i < row.entries.size() && (row.entries[i] & kNoBox) == kNoBox) ++i;
  ASSERT_LT(i, static_cast<size_t>(boxes_a_tile)) << "a tile of holes";
  const size_t holes = i;
  for (; i < row.entries.size(); ++i) {
    const int box = row.entries[i] & kNoBox;
    const int64_t begin = int64_t{box} * test.plan.box_rows, end = begin + test.plan.box_rows;
    EXPECT_TRUE(expected.any(begin, end)) << "box " << box << " is listed for nothing";
    const bool whole = expected.every_once(begin, end);
    // Counted boxes of which the predicate leaves once everything may pass for partial.
    const bool is_full = whole && (full.size() > 0 || partial.empty() || box <= partial.back() ||
                                   i >= static_cast<size_t>(row.partial_tiles * boxes_a_tile));
    (is_full ? full : partial).push_back(box);
    if (i >= static_cast<size_t>(row.partial_tiles * boxes_a_tile)) {
      EXPECT_TRUE(whole) << "box " << box << " stands in a tile without a mask";
    }
  }
  EXPECT_TRUE(std::ranges::is_sorted(full));
  EXPECT_TRUE(std::ranges::is_sorted(partial));
  EXPECT_GE(int64_t{row.partial_tiles} * boxes_a_tile, static_cast<int64_t>(holes + partial.size()));
  EXPECT_LT((int64_t{row.partial_tiles} - 1) * boxes_a_tile, static_cast<int64_t>(holes + row.entries.size()));
  if (!is_counted(test.pattern.mask)) {
    const auto needed = (static_cast<int64_t>(holes + partial.size()) + boxes_a_tile - 1) / boxes_a_tile;
    EXPECT_EQ(row.partial_tiles, needed) << "tiles that need a mask";
  }
  EXPECT_EQ(built.overflow, false);
}

/// Calls `expect(places, expected)` for every row of queries.
template <typename Expect>
void for_each_row(const BuilderCase& test, const BuiltRows& built, Expect&& expect) {
  const bool additive = std::holds_alternative<PaddingAdditive>(test.pattern.padding);
  for (int64_t batch = 0; batch < std::ssize(test.geometry.sequences); ++batch) {
    const Sequence& sequence = test.geometry.sequences[static_cast<size_t>(batch)];
    for (int64_t head = 0; head < test.shape.heads; ++head) {
      const auto multiplicities =
          oracle::multiplicities(test.pattern.mask, batch, head, test.geometry, test.bindings, test.shape.heads);
      for (int64_t begin = 0; begin < sequence.query_length; begin += built.row_queries) {
        SCOPED_TRACE(fmt::format("sequence {}, head {}, queries from {}", batch, head, begin));
        const Places places = places_of(built, batch, head, begin / built.row_queries, sequence);
        ASSERT_LT(places.row, built.places * test.shape.heads);
        expect(places,
               Expected{multiplicities, sequence, begin, std::min(begin + built.row_queries, sequence.query_valid),
                        additive ? sequence.key_length : sequence.key_valid});
      }
    }
  }
}

/// Whatever tells kernels which keys a row sees: it comes to what the mask says, pair by pair.
void expect_pairs(const BuilderCase& test, const BuiltRows& built) {
  for_each_row(test, built, [&](const Places& places, const Expected& expected) {
    for (int64_t q = expected.query_begin; q < expected.query_end; ++q) {
      for (int64_t k = 0; k < built.keys; ++k) {
        const int64_t wanted = k < expected.key_end ? expected.at(q, k) : 0;
        const int64_t row = places.row * built.row_queries + q - expected.query_begin;
        ASSERT_EQ(built.counts[static_cast<size_t>(row * built.keys + k)], wanted) << "query " << q << " key " << k;
      }
    }
  });
}

void expect_lists(const BuilderCase& test, const BuiltRows& built) {
  std::vector<bool> named(built.rows.size());
  for_each_row(test, built, [&](const Places& places, const Expected& expected) {
    const auto place = static_cast<size_t>(places.list);
    ASSERT_LT(place, built.rows.size());
    named[place] = true;
    expect_row(test, built, built.rows[place], expected);
  });
  for (size_t row = 0; row < named.size(); ++row) {
    if (named[row]) continue;
    EXPECT_TRUE(built.rows[row].entries.empty()) << "place " << row << " belongs to no query tile";
  }
}

struct Example {
  const char* name;
  Mask mask;
  bool same_lengths = false;
};

void PrintTo(const Example& example, std::ostream* out) { *out << example.name; }

class CudaLists : public testing::TestWithParam<Example> {};

TEST_P(CudaLists, SayWhatTheMaskSays) {
  int listed = 0;
  for (uint64_t seed = 1; seed <= (test::is_thorough() ? 60 : 12); ++seed) {
    std::mt19937_64 random(seed);
    RandomArrays owned;
    BuilderCase test = test::random_builder_case(random, GetParam().mask, GetParam().same_lengths, owned);
    test.shape.heads = 2;  // few kernels to compile
    test.shape.head_dim = test.shape.value_dim = 64;
    test.plan = default_sm90_plan(test.shape, test::block_of(GetParam().mask), 8192);
    std::mt19937_64 again(seed);
    owned = random_arrays(again, test.pattern, test.shape, test.geometry);
    test.bindings = owned.bindings;
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, test::describe(test)));
    const BuiltRows built = test::build_rows(test);
    ASSERT_TRUE(built.lists);
    expect_lists(test, built);
    expect_pairs(test, built);
    for (const ListedRow& row : built.rows) listed += static_cast<int>(row.entries.size());
    if (HasFailure()) break;
  }
  EXPECT_GT(listed, 0) << "a test of nothing";
}

INSTANTIATE_TEST_SUITE_P(
    Masks, CudaLists,
    testing::Values(Example{"table_64", blocks(64, "t")}, Example{"table_128_counted", blocks(128, "t", true)},
                    Example{"table_16", blocks(16, "t")}, Example{"lists_32", block_lists(32, "o", "i")},
                    Example{"lists_64_counted", block_lists(64, "o", "i", true)},
                    Example{"bigbird_64", bigbird(64, 2, BigBirdTable{"r"}), true},
                    Example{"bigbird_16", bigbird(16, 3, BigBirdTable{"r"}), true},
                    Example{"table_128_causal", blocks(128, "t") & causal()},
                    Example{"table_32_window", blocks(32, "t") & window(70, 3)},
                    Example{"table_64_or_sink", blocks(64, "t", true) | sink(5)},
                    Example{"table_8_or_window", blocks(8, "t") | window(9, 0)},
                    Example{"not_table_64", ~blocks(64, "t", true) & causal()},
                    Example{"odd_blocks", blocks(24, "t", true) & causal()},
                    Example{"two_tables", blocks(64, "t", true) & blocks(16, "u", true)}, Example{"bits", bits("m")},
                    Example{"documents", documents("s") & causal()},
                    Example{"tokens", global_tokens("g") | window(20, 0)},
                    Example{"where", where((var::q() + var::k()) % constant(int64_t{97}) < constant(int64_t{3}))}),
    [](const auto& instance) { return instance.param.name; });

TEST(CudaRowsOfRandomMasks, SeeWhatTheMaskSays) {
  int lists = 0, closed_forms = 0;
  const int wanted = test::is_thorough() ? 60 : 8;
  for (uint64_t seed = 1; lists < wanted || closed_forms < wanted / 2; ++seed) {
    std::mt19937_64 random(seed);
    const bool same_lengths = seed % 2 == 0;
    const Mask mask = random_mask(random, {.max_depth = 2, .bigbird = same_lengths, .block_sizes = {3, 16, 64, 128}});
    RandomArrays owned;
    const BuilderCase test = test::random_builder_case(random, mask, same_lengths, owned);
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, test::describe(test)));
    int& cases = test::wants_lists(test) ? lists : closed_forms;
    if (++cases > wanted) continue;
    const BuiltRows built = test::build_rows(test);
    if (built.lists) expect_lists(test, built);
    expect_pairs(test, built);
    if (HasFailure()) break;
  }
}

TEST(CudaRowsOfSortedDocuments, SeeTheirDocumentWithoutLists) {
  for (const Mask& mask : {documents("s"), documents("s") & causal(), (documents("s") & causal()) | sink(2)}) {
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      std::mt19937_64 random(seed);
      RandomArrays owned;
      BuilderCase test = test::random_builder_case(random, mask, false, owned);
      test.shape.head_dim = test.shape.value_dim = 64;
      test.plan = default_sm90_plan(test.shape, 0, 8192);
      test.sorted_documents = true;
      std::vector<int32_t> ids;
      for (const Sequence& sequence : test.geometry.sequences) {
        int32_t id = static_cast<int32_t>(draw(random, -3, 3));
        for (int64_t k = 0; k < sequence.key_length; ++k) {
          if (chance(random, 0.02)) id += static_cast<int32_t>(draw(random, 1, 3));
          ids.push_back(id);
        }
      }
      test.bindings = {{"s", {.data = ids.data(), .type = ElementType::kInt32, .shape = {std::ssize(ids)}}}};
      SCOPED_TRACE(fmt::format("seed {}: {}", seed, test::describe(test)));
      const BuiltRows built = test::build_rows(test);
      ASSERT_FALSE(built.lists);
      expect_pairs(test, built);
      if (HasFailure()) return;
    }
  }
}

TEST(CudaListsThatHeadsAndSequencesShare, SayWhatTheMaskSays) {
  for (const Mask& mask : {blocks(64, "t"), blocks(16, "t") & window(100, 0)}) {
    std::mt19937_64 random(5);
    RandomArrays owned;
    BuilderCase test = test::random_builder_case(random, mask, true, owned);
    test.pattern.padding = PaddingExcluded{};
    test.shape.heads = 3;
    test.geometry = padded_geometry(200, {200, 200, 200});
    test.packed = false;
    test.shares_lists = true;
    test.split_capacity = 0;
    std::vector<uint8_t> table(13 * 13);
    for (uint8_t& named : table) named = chance(random, 0.4);
    test.bindings = {{"t", {.data = table.data(), .type = ElementType::kUInt8, .shape = {13, 13}}}};
    SCOPED_TRACE(test::describe(test));
    const BuiltRows built = test::build_rows(test);
    EXPECT_EQ(built.rows.size(), 4u);
    expect_lists(test, built);
    expect_pairs(test, built);
    EXPECT_EQ(built.order.size(), 36u);
  }
}

/// One sequence, packed.
Geometry one_sequence(int64_t queries, int64_t keys) {
  Geometry geometry;
  geometry.sequences = {{.query_length = queries, .key_length = keys, .query_valid = queries, .key_valid = keys}};
  geometry.query_tokens = queries;
  geometry.key_tokens = keys;
  return geometry;
}

TEST(CudaListsOfMoreBoxesThanAChunk, SayWhatTheMaskSays) {
  for (const Mask& mask : {blocks(8, "t"), blocks(8, "t") & ~window(3000, -2000)}) {
    std::mt19937_64 random(11);
    RandomArrays owned;
    BuilderCase test = test::random_builder_case(random, mask, false, owned);
    test.pattern.padding = PaddingExcluded{};
    test.geometry = one_sequence(70, 20000);
    test.packed = true;
    owned = random_arrays(random, test.pattern, test.shape, test.geometry);
    test.bindings = owned.bindings;
    SCOPED_TRACE(test::describe(test));
    ASSERT_EQ(test.plan.box_rows, 8);
    const BuiltRows built = test::build_rows(test);
    expect_lists(test, built);
    expect_pairs(test, built);
  }
}

TEST(CudaListsOfTooLittleRoom, AreEmptyAndSaySo) {
  std::mt19937_64 random(7);
  RandomArrays owned;
  BuilderCase test = test::random_builder_case(random, blocks(64, "t"), true, owned);
  test.geometry = one_sequence(256, 256);
  test.packed = true;
  test.raw_tables = true;  // rows lie wherever there is room
  const std::vector<uint8_t> table(16, 1);
  test.bindings = {{"t", {.data = table.data(), .type = ElementType::kUInt8, .shape = {4, 4}}}};
  test.entry_capacity = 5;
  const BuiltRows built = test::build_rows(test);
  EXPECT_TRUE(built.overflow);
  for (const ListedRow& row : built.rows) EXPECT_TRUE(row.entries.empty() || row.begin == 0);
}

}  // namespace
}  // namespace harrier
