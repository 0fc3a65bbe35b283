#include "autotune/work_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>

namespace harrier::autotune {
namespace {

TEST(ItemsInOrder, AreLongestFirstInEachGroupOfHeads) {
  const RowsOfHeads rows = {{{.full = 1}, {.full = 3, .partial = 1}}, {{.full = 2}}, {{.full = 9}}};
  const auto tiles = [&](int64_t heads_per_group, int64_t most_tiles) {
    std::vector<int64_t> found;
    for (const WorkItem& item : items_in_order(rows, 3, heads_per_group, most_tiles)) found.push_back(item.tiles);
    return found;
  };
  EXPECT_THAT(tiles(1, 100), testing::ElementsAre(4, 1, 2, 9));
  EXPECT_THAT(tiles(2, 100), testing::ElementsAre(4, 2, 1, 9));
  EXPECT_THAT(tiles(3, 100), testing::ElementsAre(9, 4, 2, 1));
  EXPECT_THAT(tiles(3, 4), testing::ElementsAre(4, 3, 3, 3, 2, 1)) << "parts are rows of their own";
  EXPECT_EQ(count_tiles(rows, 3), 16);
  EXPECT_EQ(count_rows(rows, 3), 4);
  EXPECT_EQ(count_tiles({{{.full = 2, .partial = 1}}}, 5), 15) << "heads that are alike";
}

TEST(Makespan, IsWorkedOutByHand) {
  const std::vector<double> items = {5, 4, 3, 3, 3};
  EXPECT_DOUBLE_EQ(makespan_us(items, 1), 18);
  EXPECT_DOUBLE_EQ(makespan_us(items, 2), 10);  // 5+3 and 4+3, then 3 more where 7 is done
  EXPECT_DOUBLE_EQ(makespan_us(items, 5), 5);
  EXPECT_DOUBLE_EQ(makespan_us(items, 50), 5);
  EXPECT_DOUBLE_EQ(makespan_us({}, 4), 0);
}

TEST(Makespan, LiesBetweenItsBounds) {
  rc::check([] {
    const auto counts = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 1000));
    const std::vector<double> items(counts.begin(), counts.end());
    const int64_t ctas = *rc::gen::inRange(1, 40);
    const double sum = std::accumulate(items.begin(), items.end(), 0.0);
    const double longest = items.empty() ? 0 : *std::ranges::max_element(items);
    const double end = makespan_us(items, ctas);
    RC_ASSERT(end >= std::max(longest, sum / static_cast<double>(ctas)) * (1 - 1e-12));
    RC_ASSERT(end <= sum / static_cast<double>(ctas) + longest + 1e-9);  // Graham's bound of greedy lists
    std::vector<double> twice = items;
    for (double& item : twice) item *= 2;
    RC_ASSERT(std::abs(makespan_us(twice, ctas) - 2 * end) < 1e-6);
  });
}

TEST(PartTiles, IsTheFairShareOfTheKernels) {
  // As in part_tiles of build_order.cuh: at least split_tiles, and what makes half as many parts as there is room for.
  EXPECT_EQ(part_tiles({.heads_per_group = 1, .split_tiles = 16, .split_capacity = 100}, 100), 16);
  EXPECT_EQ(part_tiles({.heads_per_group = 1, .split_tiles = 16, .split_capacity = 100}, 1001), 21);
  EXPECT_GT(part_tiles({.heads_per_group = 1, .split_tiles = 0, .split_capacity = 100}, 1000), 1'000'000);
  EXPECT_GT(part_tiles({.heads_per_group = 1, .split_tiles = 16, .split_capacity = 0}, 1000), 1'000'000);
}

}  // namespace
}  // namespace harrier::autotune
