// Random blocks as Hugging Face draws them: against tables that its code drew.
#include "compiler/bigbird_table.h"

#include <gtest/gtest.h>

#include "ir/error.h"
#include "support/golden.h"

namespace harrier {
namespace {

GoldenArray golden_table(const std::string& name) {
  return read_golden(std::string(HARRIER_TEST_DATA) + "/goldens/" + name + "/table.npy");
}

std::vector<int32_t> first_ints(const GoldenArray& array, size_t count) {
  const auto* data = reinterpret_cast<const int32_t*>(array.bytes.data());
  return {data, data + count};
}

TEST(BigBirdTable, ReleasedPlanIsHuggingFaces) {
  // The file holds the rows for 4096 tokens, of one head.
  const GoldenArray table = golden_table("bigbird_train_1024");
  EXPECT_EQ(draw_bigbird_table(1, 1024, 64, 1, 3), first_ints(table, 42));
  EXPECT_EQ(draw_bigbird_table(1, 4096, 64, 1, 3), first_ints(table, 186));
  EXPECT_EQ(draw_bigbird_table(1, 4090, 64, 1, 3), first_ints(table, 186)) << "lengths are padded to blocks";
  // Each head draws all its rows first, so the first head does not depend on the others.
  const std::vector<int32_t> two_heads = draw_bigbird_table(1, 1024, 64, 2, 3);
  ASSERT_EQ(two_heads.size(), 84U);
  EXPECT_EQ(std::vector<int32_t>(two_heads.begin(), two_heads.begin() + 42), first_ints(table, 42));
}

TEST(BigBirdTable, OneSectionPlanIsHuggingFaces) {
  EXPECT_EQ(draw_bigbird_table(1, 960, 64, 2, 3), first_ints(golden_table("bigbird_train_padded_960"), 78));
  EXPECT_EQ(draw_bigbird_table(0, 768, 64, 1, 3), (std::vector<int32_t>{4, 6, 7, 9, 5, 4, 6, 7, 9, 7, 6, 9, 8, 9, 3,
                                                                        3, 1, 8, 2, 3, 5, 6, 1, 4, 5, 2, 6, 2, 4, 6}));
}

TEST(BigBirdTable, TwoSectionPlanIsHuggingFaces) {
  // 25 blocks, 10 random ones: five from blocks below 15 and five from those above. First rows and last row.
  const std::vector<int32_t> table = draw_bigbird_table(5, 1600, 64, 1, 10);
  ASSERT_EQ(table.size(), 230U);
  EXPECT_EQ(std::vector<int32_t>(table.begin(), table.begin() + 20),
            (std::vector<int32_t>{5, 7, 10, 11, 4, 20, 22, 19, 15, 18, 10, 11, 8, 9, 6, 15, 22, 23, 16, 17}));
  EXPECT_EQ(std::vector<int32_t>(table.end() - 10, table.end()),
            (std::vector<int32_t>{4, 2, 3, 7, 8, 18, 15, 20, 17, 16}));
}

TEST(BigBirdTable, ShortSequencesHaveNoRows) {
  EXPECT_TRUE(draw_bigbird_table(1, 0, 64, 2, 3).empty());
  EXPECT_TRUE(draw_bigbird_table(1, 128, 64, 2, 3).empty());
}

TEST(BigBirdTable, RefusesWhatHuggingFaceCannotDraw) {
  EXPECT_THROW(draw_bigbird_table(1, 256, 64, 1, 3), InvalidInput);
  EXPECT_THROW(draw_bigbird_table(-1, 1024, 64, 1, 3), InvalidInput);
  EXPECT_THROW(draw_bigbird_table(int64_t{1} << 32, 1024, 64, 1, 3), InvalidInput);
  EXPECT_THROW(draw_bigbird_table(1, 1024, 64, 1, 15), InvalidInput);
}

}  // namespace
}  // namespace harrier
