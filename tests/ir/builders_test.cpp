// Builders, types of expressions, names and sizes.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ir/error.h"
#include "ir/geometry.h"
#include "ir/nearest_name.h"
#include "ir/text.h"

namespace harrier {
namespace {

using namespace harrier::var;

TEST(Builders, AndAndOrFlattenTheirOwnKindOnly) {
  EXPECT_EQ((causal() & sink(1)) & (sink(2) & sink(3)), (Mask{And{{causal(), sink(1), sink(2), sink(3)}}}));
  EXPECT_EQ(causal() | (sink(1) & sink(2)) | none(), (Mask{Or{{causal(), Mask{And{{sink(1), sink(2)}}}, none()}}}));
}

TEST(Builders, PrefixIsASink) { EXPECT_EQ(prefix(7), sink(7)); }

TEST(IsCounted, HoldsForBigBirdAndCountedBlocksOutsideNot) {
  EXPECT_TRUE(is_counted(bigbird(64, 3, BigBirdZero{})));
  EXPECT_TRUE(is_counted(causal() & (sink(1) | blocks(4, "t", true))));
  EXPECT_TRUE(is_counted(block_lists(4, "o", "i", true)));
  EXPECT_FALSE(is_counted(blocks(4, "t") | causal() | all()));
  EXPECT_FALSE(is_counted(~blocks(4, "t", true)));
}

TEST(TypeOf, FollowsTheRules) {
  const auto type = [](const std::string& text) { return type_of(parse_expression(text, ExpressionUse::kScore)); };
  EXPECT_EQ(type("q + k"), ExpressionType::kInt);
  EXPECT_EQ(type("q + s"), ExpressionType::kFloat);
  EXPECT_EQ(type("(q < k) + (k < q)"), ExpressionType::kInt);
  EXPECT_EQ(type("q < s"), ExpressionType::kBool);
  EXPECT_EQ(type("!q || k"), ExpressionType::kBool);
  EXPECT_EQ(type("(q < k) & (k < q)"), ExpressionType::kInt);
  EXPECT_EQ(type("-(q < k)"), ExpressionType::kInt);
  EXPECT_EQ(type("abs(s)"), ExpressionType::kFloat);
  EXPECT_EQ(type("exp(q)"), ExpressionType::kFloat);
  EXPECT_EQ(type("min(q, 0.5)"), ExpressionType::kFloat);
  EXPECT_EQ(type("select(q, q < k, k < q)"), ExpressionType::kBool);
  EXPECT_EQ(type("select(q, q < k, 2)"), ExpressionType::kInt);
  EXPECT_EQ(type("select(q, 2, s)"), ExpressionType::kFloat);
  EXPECT_EQ(type("@t[q]"), ExpressionType::kFloat);
  EXPECT_EQ(type_of(load("t", {q()})), ExpressionType::kInt);
  EXPECT_EQ(type_of(Expression{Parameter{.index = 0, .is_float = true}}), ExpressionType::kFloat);
  EXPECT_EQ(type_of(Expression{TileCount{.slot = 0}}), ExpressionType::kInt);
}

TEST(DataTypes, NamesAndBytes) {
  EXPECT_STREQ(name_of(DataType::kBFloat16), "bf16");
  EXPECT_EQ(bytes_of(DataType::kFloat32), 4);
  EXPECT_EQ(bytes_of(DataType::kFloat16), 2);
  EXPECT_STREQ(name_of(ElementType::kBool), "bool");
  EXPECT_STREQ(name_of(ElementType::kBFloat16), "bfloat16");
  EXPECT_EQ(bytes_of(ElementType::kUInt8), 1);
  EXPECT_EQ(bytes_of(ElementType::kInt16), 2);
  EXPECT_EQ(bytes_of(ElementType::kUInt32), 4);
  EXPECT_EQ(bytes_of(ElementType::kFloat64), 8);
}

TEST(ElementCount, MultipliesAndRefusesWhatIsTooMuch) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({3, 4, 5}), 60);
  EXPECT_EQ(element_count({int64_t{1} << 40, 0, int64_t{1} << 40}), 0);
  EXPECT_EQ(element_count({int64_t{1} << 31, int64_t{1} << 31}), int64_t{1} << 62);
  EXPECT_THROW(element_count({int64_t{1} << 31, int64_t{1} << 31, 2}), InvalidInput);
  EXPECT_THROW(element_count({0, -1}), InvalidInput);
}

TEST(NearestName, ForgivesAThirdOfTheLetters) {
  const std::vector<std::string_view> names = {"causal", "window", "all"};
  EXPECT_EQ(nearest_name("casual", names), "causal");
  EXPECT_EQ(nearest_name("windw", names), "window");
  EXPECT_EQ(nearest_name("al", names), "all");
  EXPECT_EQ(nearest_name("wn", names), "");
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name(std::string(1'000'000, 'a'), names), "");
}

}  // namespace
}  // namespace harrier
