// Rows and columns of batches, counted under plans.
#include "compiler/cuda/batch_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "ir/text.h"
#include "packed_batch.h"
#include "support/random_draws.h"
#include "support/random_pattern.h"

namespace harrier {
namespace {

using testing::ElementsAre;
using Tiles = autotune::RowTiles;

TEST(BatchRows, CountTilesAsTheyAre) {
  const Workload workload = parse_workload("attention a { heads 2 dtype bf16 mask causal lengths fixed(256) }");
  const LengthDraw draw{.geometry = packed_batch(2, 256), .bindings = {}};
  CudaPlan plan{.consumers = 1, .tile_k = 64, .box_rows = 64};
  const autotune::BatchRows rows = batch_rows(workload, draw, plan);
  ASSERT_EQ(rows.heads.size(), 1);
  EXPECT_EQ(rows.key_tokens, 512);
  EXPECT_THAT(rows.heads[0], ElementsAre(Tiles{0, 1}, Tiles{1, 1}, Tiles{2, 1}, Tiles{3, 1}, Tiles{0, 1}, Tiles{1, 1},
                                         Tiles{2, 1}, Tiles{3, 1}));
  // Tiles gathered from two boxes: the partial box stands in the first tile.
  plan.tile_k = 128;
  EXPECT_THAT(batch_rows(workload, draw, plan).heads[0],
              ElementsAre(Tiles{0, 1}, Tiles{0, 1}, Tiles{1, 1}, Tiles{1, 1}, Tiles{0, 1}, Tiles{0, 1}, Tiles{1, 1},
                          Tiles{1, 1}));
}

TEST(BatchRows, HeadsWithTablesOfTheirOwnAreCountedApart) {
  const Workload workload =
      parse_workload("attention a { heads 2 dtype bf16 mask blocks(64, @table) lengths fixed(128) }");
  const std::vector<uint8_t> table = {1, 1, 0, 1, 1, 0, 0, 0};
  const LengthDraw draw{
      .geometry = packed_batch(1, 128),
      .bindings = {{"table", {.data = table.data(), .type = ElementType::kUInt8, .shape = {2, 2, 2}}}}};
  const CudaPlan plan{.consumers = 1, .tile_k = 64, .box_rows = 64};
  const autotune::BatchRows rows = batch_rows(workload, draw, plan);
  ASSERT_EQ(rows.heads.size(), 2);
  EXPECT_THAT(rows.heads[0], ElementsAre(Tiles{2, 0}, Tiles{1, 0}));
  EXPECT_THAT(rows.heads[1], ElementsAre(Tiles{1, 0}, Tiles{0, 0}));
}

TEST(BatchRows, RowsMayHoldSeveralBlocksOfQueries) {
  const Workload workload =
      parse_workload("attention a { heads 1 dtype bf16 mask blocks(32, @table) lengths fixed(128) }");
  // Two blocks of queries see the same key block, the next two see one each.
  const std::vector<uint8_t> table = {1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  const LengthDraw draw{.geometry = packed_batch(1, 128),
                        .bindings = {{"table", {.data = table.data(), .type = ElementType::kUInt8, .shape = {4, 4}}}}};
  const CudaPlan plan{.consumers = 1, .tile_k = 64, .box_rows = 32, .row_blocks = 2};
  EXPECT_THAT(batch_rows(workload, draw, plan).heads.at(0), ElementsAre(Tiles{1, 0}, Tiles{0, 1}));
}

/// 64 queries and so many keys, one box.
CudaPlan backward_plan(int tile_k) { return {.consumers = 1, .tile_k = tile_k, .box_rows = tile_k}; }

TEST(BatchRows, ColumnsOfAKeyHeadPassTheRowsOfEveryHeadThatReadsIt) {
  const Workload workload =
      parse_workload("attention a { heads 4 kv_heads 2 dtype bf16 direction backward mask causal lengths fixed(256) }");
  const autotune::BatchRows rows =
      batch_rows(workload, {.geometry = packed_batch(1, 256), .bindings = {}}, backward_plan(128));
  ASSERT_EQ(rows.columns.size(), 1) << "heads are alike";
  EXPECT_THAT(rows.columns[0], ElementsAre(Tiles{4, 4}, Tiles{0, 4}));
  EXPECT_THAT(rows.heads[0], ElementsAre(Tiles{0, 1}, Tiles{0, 1}, Tiles{1, 1}, Tiles{1, 1}));
  EXPECT_EQ(rows.column_runs, 4 * 2);
  EXPECT_EQ(rows.query_tokens, 256);
}

TEST(BatchRows, ColumnsOfHeadsWithTablesOfTheirOwnAreCountedApart) {
  const Workload workload = parse_workload(
      "attention a { heads 2 dtype bf16 direction backward mask blocks(64, @table) lengths fixed(192) }");
  const std::vector<uint8_t> table = {1, 0, 0, 0, 0, 1, 1, 0, 0, /* head 1: */ 1, 1, 1, 0, 0, 0, 0, 0, 0};
  const LengthDraw draw{
      .geometry = packed_batch(1, 192),
      .bindings = {{"table", {.data = table.data(), .type = ElementType::kUInt8, .shape = {2, 3, 3}}}}};
  const autotune::BatchRows rows = batch_rows(workload, draw, backward_plan(64));
  ASSERT_EQ(rows.columns.size(), 2);
  EXPECT_THAT(rows.columns[0], ElementsAre(Tiles{2, 0}, Tiles{0, 0}, Tiles{1, 0}));
  EXPECT_THAT(rows.columns[1], ElementsAre(Tiles{1, 0}, Tiles{1, 0}, Tiles{1, 0}));
  EXPECT_EQ(rows.column_runs, 3 + 3) << "the first head's first column has a hole";
  // Where a column holds several blocks, a tile is whole when all of them are there.
  const std::vector<uint8_t> halves = {1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0};
  const Workload of_32 = parse_workload(
      "attention a { heads 1 dtype bf16 direction backward mask blocks(32, @table) lengths fixed(128) }");
  const LengthDraw small{
      .geometry = packed_batch(1, 128),
      .bindings = {{"table", {.data = halves.data(), .type = ElementType::kUInt8, .shape = {4, 4}}}}};
  EXPECT_THAT(batch_rows(of_32, small, backward_plan(64)).columns.at(0), ElementsAre(Tiles{0, 2}, Tiles{0, 2}));
}

TEST(BatchRows, RowsAndColumnsHoldTheSameTiles) {
  rc::check([](uint64_t seed) {
    std::mt19937_64 random(seed);
    Workload workload;
    workload.shape = {.heads = 4,
                      .kv_heads = pick<int64_t>(random, {1, 2, 4}),
                      .dtype = DataType::kBFloat16,
                      .direction = Direction::kBackward};
    workload.pattern.mask = random_mask(random, {.max_depth = 2, .bigbird = false, .block_sizes = {16, 32, 64}});
    std::vector<int64_t> lengths;
    for (int64_t i = draw(random, 1, 3); i > 0; --i) lengths.push_back(draw(random, 0, 300));
    const Geometry geometry = packed_geometry(lengths);
    const RandomArrays arrays = random_arrays(random, workload.pattern, workload.shape, geometry);
    const int64_t heads = workload.shape.heads;
    const autotune::BatchRows rows =
        batch_rows(workload, {.geometry = geometry, .bindings = arrays.bindings}, backward_plan(64));
    const auto sum = [](const autotune::RowsOfHeads& lists, int64_t alike) {
      Tiles tiles;
      for (const auto& list : lists) {
        for (const Tiles& each : list) {
          tiles.full += (lists.size() == 1 ? alike : 1) * each.full;
          tiles.partial += (lists.size() == 1 ? alike : 1) * each.partial;
        }
      }
      return tiles;
    };
    const Tiles in_rows = sum(rows.heads, heads);
    RC_ASSERT(in_rows == sum(rows.columns, rows.heads.size() == 1 ? workload.shape.kv_heads : 1));
    RC_ASSERT(rows.column_runs <= in_rows.full + in_rows.partial);
    RC_ASSERT((rows.column_runs > 0) == (in_rows.full + in_rows.partial > 0));
  });
}

}  // namespace
}  // namespace harrier
