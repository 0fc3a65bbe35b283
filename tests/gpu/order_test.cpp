// Orders that are built on the device: every row once, in whole or in parts, longest first.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "builder_case.h"

namespace harrier {
namespace {

using test::BuilderCase, test::BuiltRows;

struct RowName {
  int batch;
  int head;
  int tile;
  auto operator<=>(const RowName&) const = default;
};

std::set<RowName> rows_of(const BuilderCase& test, int row_queries) {
  std::set<RowName> rows;
  for (int batch = 0; batch < std::ssize(test.geometry.sequences); ++batch) {
    const int64_t length = test.geometry.sequences[static_cast<size_t>(batch)].query_length;
    for (int head = 0; head < test.shape.heads; ++head) {
      for (int tile = 0; tile * row_queries < length; ++tile) rows.insert({batch, head, tile});
    }
  }
  return rows;
}

int tiles_of(const BuilderCase& test, const BuiltRows& built, const RowName& name) {
  const Sequence& sequence = test.geometry.sequences[static_cast<size_t>(name.batch)];
  const int per_batch = test.packed ? kPackedRows : built.places / static_cast<int>(test.geometry.sequences.size());
  const int place =
      first_row(per_batch, name.batch, static_cast<int>(sequence.query_token), built.row_queries) + name.tile;
  const int head = built.measured_heads == 1 ? 0 : name.head;
  return built.measures[static_cast<size_t>(head * built.places + place)].tiles;
}

void expect_order(const BuilderCase& test, const BuiltRows& built) {
  std::map<RowName, std::vector<WorkItem>> items;
  for (const WorkItem& item : built.order) items[{item.batch, item.head, item.tile}].push_back(item);
  std::set<RowName> named;
  std::set<int> slots;
  int64_t all_tiles = 0;
  for (const auto& [name, parts] : items) {
    named.insert(name);
    SCOPED_TRACE(fmt::format("sequence {}, head {}, tile {}", name.batch, name.head, name.tile));
    const int tiles = tiles_of(test, built, name);
    all_tiles += tiles;
    int next = 0, longest = 0, shortest = tiles;
    for (const WorkItem& part : parts) {  // parts of a row stand in order
      EXPECT_EQ(part.first_tile, next);
      next = part.tile_limit;
      longest = std::max(longest, part.tile_limit - part.first_tile);
      shortest = std::min(shortest, part.tile_limit - part.first_tile);
      if (parts.size() == 1) {
        EXPECT_EQ(part.split_slot, -1);
      } else {
        EXPECT_TRUE(slots.insert(part.split_slot).second) << "slot " << part.split_slot << " is taken twice";
        EXPECT_GE(part.split_slot, 0);
        EXPECT_LT(part.split_slot, test.split_capacity);
      }
    }
    EXPECT_EQ(next, tiles);
    EXPECT_LE(longest - shortest, 1);
    if (parts.size() > 1) {
      EXPECT_GT(tiles, test.split_tiles);
    }
  }
  EXPECT_EQ(named, rows_of(test, built.row_queries));

  std::set<RowName> joined;
  for (const SplitRow& row : built.split_rows) {
    const RowName name{row.batch, row.head, row.tile};
    EXPECT_TRUE(joined.insert(name).second);
    const auto& parts = items[name];
    ASSERT_EQ(static_cast<size_t>(row.slots), parts.size());
    ASSERT_GT(row.slots, 1);
    for (int i = 0; i < row.slots; ++i) EXPECT_EQ(parts[static_cast<size_t>(i)].split_slot, row.first_slot + i);
  }
  for (const auto& [name, parts] : items) EXPECT_EQ(parts.size() > 1, joined.contains(name));

  // Longest first inside a group of heads, groups one after another.
  int group = 0, length = 0x7fffffff;
  for (const WorkItem& item : built.order) {
    const RowName name{item.batch, item.head, item.tile};
    const auto parts = static_cast<int>(items[name].size());
    const int cost = (tiles_of(test, built, name) + parts - 1) / parts;
    const int own_group = item.head / test.heads_per_group;
    ASSERT_GE(own_group, group);
    if (own_group > group) length = 0x7fffffff;
    group = own_group;
    ASSERT_LE(cost, length) << "a longer part stands behind a shorter one";
    length = cost;
  }

  // Splitting stops no row that is longer than twice a fair share of the slots.
  if (test.split_capacity > 0) {
    const int64_t share =
        std::max<int64_t>(test.split_tiles, (2 * all_tiles + test.split_capacity - 1) / test.split_capacity);
    for (const auto& [name, parts] : items) {
      EXPECT_EQ(parts.size() > 1, tiles_of(test, built, name) > share);
    }
  }
}

void expect_orders(const Mask& mask, uint64_t seeds) {
  int split = 0, rows = 0;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    std::mt19937_64 random(seed);
    RandomArrays owned;
    BuilderCase test = test::random_builder_case(random, mask, false, owned);
    test.shape.head_dim = test.shape.value_dim = 64;
    test.plan = default_sm90_plan(test.shape, test::block_of(mask), 64);
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, test::describe(test)));
    const BuiltRows built = test::build_rows(test);
    expect_order(test, built);
    rows += static_cast<int>(built.order.size());
    split += static_cast<int>(built.split_rows.size());
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(rows, 0);
  EXPECT_GT(split, 0) << "no row was ever split";
}

TEST(CudaOrder, OfClosedFormsHasEveryRowOnceLongestFirst) { expect_orders((causal() & window(200, 0)) | sink(3), 40); }

TEST(CudaOrder, OfListsHasEveryRowOnceLongestFirst) { expect_orders(blocks(64, "t"), 40); }

TEST(CudaOrder, OfMoreRowsThanASectionGoesSectionBySection) {
  BuilderCase test;
  test.pattern.mask = window(100, 100);
  test.shape = {.heads = 3, .dtype = DataType::kFloat16};
  test.plan = default_sm90_plan(test.shape, 0, 64);
  const int64_t length = int64_t{64} * 5000;
  test.geometry.sequences = {
      {.query_length = length, .key_length = length, .query_valid = length, .key_valid = length}};
  test.geometry.query_tokens = test.geometry.key_tokens = length;
  test.heads_per_group = 2;
  test.reads_rows = false;  // too many pairs
  const BuiltRows built = test::build_rows(test);
  ASSERT_EQ(built.order.size(), 15000u);
  std::set<RowName> named;
  for (const WorkItem& item : built.order) named.insert({item.batch, item.head, item.tile});
  EXPECT_EQ(named, rows_of(test, built.row_queries));
  const auto section = [&](size_t i) { return built.order[i].tile / kSectionRows; };
  for (size_t i = 0; i < 10000; ++i) {
    ASSERT_LT(built.order[i].head, 2);
    ASSERT_EQ(section(i), i < 2 * kSectionRows ? 0 : 1);
  }
}

}  // namespace
}  // namespace harrier
