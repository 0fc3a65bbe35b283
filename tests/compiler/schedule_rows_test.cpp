#include "compiler/passes/schedule_rows.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <tuple>
#include <vector>

namespace harrier {
namespace {

struct Built {
  TileMap map;
  Geometry geometry;
};

/// A map whose rows are one run each: lengths[batch][head of the map][tile] keys; a negative one is partial.
Built build(const std::vector<std::vector<std::vector<int64_t>>>& lengths, int64_t heads) {
  Built built;
  built.map.tile_q = built.map.tile_k = 1;
  built.map.heads = heads;
  built.map.first_row = {0};
  built.map.run_offsets = {0};
  for (const auto& sequence : lengths) {
    for (const auto& head : sequence) {
      for (const int64_t keys : head) {
        if (keys != 0) built.map.runs.push_back({0, std::abs(keys), keys > 0 ? 1 : 0, 0, 0.0F, 0});
        built.map.run_offsets.push_back(std::ssize(built.map.runs));
      }
    }
    built.map.first_row.push_back(std::ssize(built.map.run_offsets) - 1);
    built.geometry.sequences.emplace_back();
  }
  return built;
}

TEST(ScheduleRows, TakesTheLongestFirstAndEqualOnesHeadByHead) {
  const Built built = build({{{8, 4, 8}}, {{4}}}, 1);
  EXPECT_EQ(schedule_rows(built.map, built.geometry, 2),
            (std::vector<ScheduledRow>{
                {0, 0, 0}, {0, 0, 2}, {0, 1, 0}, {0, 1, 2}, {0, 0, 1}, {0, 1, 1}, {1, 0, 0}, {1, 1, 0}}));
}

TEST(ScheduleRows, PartialTilesAreDearerAndRowsWithoutKeysComeLast) {
  const Built built = build({{{8, 0, -8}}}, 1);
  EXPECT_EQ(schedule_rows(built.map, built.geometry, 1), (std::vector<ScheduledRow>{{0, 0, 2}, {0, 0, 0}, {0, 0, 1}}));
}

TEST(ScheduleRows, HeadsOfTheirOwnMasksAreSortedTogether) {
  const Built built = build({{{1, 2}, {9, 2}}}, 2);
  EXPECT_EQ(schedule_rows(built.map, built.geometry, 2),
            (std::vector<ScheduledRow>{{0, 1, 0}, {0, 0, 1}, {0, 1, 1}, {0, 0, 0}}));
}

TEST(ScheduleRows, NamesEveryRowOfEveryHeadOnceByFallingCost) {
  std::mt19937_64 random(31);
  SCOPED_TRACE("seed 31");
  for (int i = 0; i < 200; ++i) {
    const int64_t heads = static_cast<int64_t>(random() % 4) + 1;
    const int64_t map_heads = random() % 2 == 0 ? 1 : heads;
    std::vector<std::vector<std::vector<int64_t>>> lengths(random() % 4);
    size_t rows = 0;
    for (auto& sequence : lengths) {
      const size_t tiles = random() % 6;
      rows += tiles * static_cast<size_t>(heads);
      sequence.assign(static_cast<size_t>(map_heads), std::vector<int64_t>(tiles));
      for (auto& head : sequence) {
        for (int64_t& keys : head) keys = static_cast<int64_t>(random() % 5);
      }
    }
    const Built built = build(lengths, map_heads);
    const std::vector<ScheduledRow> order = schedule_rows(built.map, built.geometry, heads);
    ASSERT_EQ(order.size(), rows);
    std::set<std::tuple<int, int, int>> seen;
    int64_t last = 5;
    for (const ScheduledRow& row : order) {
      ASSERT_TRUE(seen.emplace(row.batch, row.head, row.tile).second);
      const int64_t keys = lengths.at(row.batch).at(map_heads == 1 ? 0 : row.head).at(row.tile);
      ASSERT_LT(row.head, heads);
      ASSERT_LE(keys, last);
      last = keys;
    }
  }
}

TEST(SpreadRows, SetsNeighbouringTilesOfAHeadApart) {
  std::vector<ScheduledRow> order;
  for (int tile = 0; tile < 9; ++tile) order.push_back({.batch = 0, .head = 0, .tile = tile});
  order.push_back({.batch = 0, .head = 1, .tile = 0});
  std::vector<int> tiles;
  for (const ScheduledRow& row : spread_rows(order, 1)) tiles.push_back(row.tile);
  EXPECT_EQ(tiles, (std::vector<int>{0, 3, 6, 1, 4, 7, 2, 5, 8, 0}));
}

TEST(SpreadRows, HeadsTakeTurnsAndThoseThatShareKeysLast) {
  const std::vector<ScheduledRow> order = {{0, 0, 0}, {0, 0, 1}, {0, 1, 0}, {0, 1, 1},
                                           {0, 2, 0}, {0, 2, 1}, {0, 3, 0}, {0, 3, 1}};
  EXPECT_EQ(spread_rows(order, 2),
            (std::vector<ScheduledRow>{
                {0, 0, 0}, {0, 2, 0}, {0, 1, 0}, {0, 3, 0}, {0, 0, 1}, {0, 2, 1}, {0, 1, 1}, {0, 3, 1}}));
}

TEST(SpreadRows, KeepsRowsThatAreNoNeighboursAndLosesNone) {
  EXPECT_TRUE(spread_rows({}, 1).empty());
  // Of a causal mask: the longest rows of all heads first.
  const std::vector<ScheduledRow> falling = {{0, 0, 2}, {0, 1, 2}, {0, 0, 1}, {0, 1, 1}, {1, 0, 0}};
  EXPECT_EQ(spread_rows(falling, 1), falling);
  std::mt19937_64 random(7);
  SCOPED_TRACE("seed 7");
  std::vector<ScheduledRow> order;
  for (int i = 0; i < 300; ++i) {
    order.push_back(
        {.batch = static_cast<int32_t>(random() % 2), .head = i, .tile = static_cast<int32_t>(random() % 3)});
  }
  const auto key = [](const ScheduledRow& row) { return std::tuple(row.batch, row.head, row.tile); };
  std::set<std::tuple<int, int, int>> before;
  std::set<std::tuple<int, int, int>> after;
  for (const ScheduledRow& row : order) before.insert(key(row));
  for (const ScheduledRow& row : spread_rows(order, 2)) after.insert(key(row));
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace harrier
