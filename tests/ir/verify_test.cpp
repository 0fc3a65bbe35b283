// Every limit of a workload, with the message that a broken one gets.
#include "ir/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "ir/error.h"
#include "ir/text.h"

namespace harrier {
namespace {

using namespace harrier::var;
using testing::StartsWith;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kBig = int64_t{1} << 31;

template <typename Thing>
std::string error_of(const Thing& thing) {
  try {
    verify(thing);
  } catch (const InvalidInput& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "no error";
}

constexpr const char* kNoError = "no error";

Expression number(int64_t value) { return constant(value); }
Pattern with_score(Expression expression) { return {.score = {.expression = std::move(expression)}}; }

TEST(VerifyShape, HeadDimsAreMultiplesOf8From16To256) {
  for (int64_t dim = -8; dim <= 300; ++dim) {
    SCOPED_TRACE(dim);
    const bool is_legal = dim >= 16 && dim <= 256 && dim % 8 == 0;
    EXPECT_EQ(error_of(Shape{.head_dim = dim}) == kNoError, is_legal);
    EXPECT_EQ(error_of(Shape{.value_dim = dim}) == kNoError, is_legal);
  }
  EXPECT_EQ(error_of(Shape{.head_dim = 20}),
            "head_dim is 20, expected a multiple of 8 in 16..256; pad the heads with zeros");
  EXPECT_EQ(error_of(Shape{.value_dim = 264}),
            "value_dim is 264, expected a multiple of 8 in 16..256; pad the heads with zeros");
}

TEST(VerifyShape, KeyHeadsDivideHeads) {
  EXPECT_EQ(error_of(Shape{.heads = 12, .kv_heads = 4}), kNoError);
  EXPECT_EQ(error_of(Shape{.heads = 12, .kv_heads = 5}),
            "kv_heads is 5, expected a divisor of heads 12; repeat or drop key heads");
  EXPECT_EQ(error_of(Shape{.heads = 4, .kv_heads = 8}),
            "kv_heads is 8, expected 1..4; there are as many as heads, or fewer");
  EXPECT_EQ(error_of(Shape{.heads = 4, .kv_heads = 0}),
            "kv_heads is 0, expected 1..4; there are as many as heads, or fewer");
  EXPECT_EQ(error_of(Shape{.heads = 0}), "heads is 0, expected 1..65536; split the batch instead");
  EXPECT_EQ(error_of(Shape{.heads = 65537}), "heads is 65537, expected 1..65536; split the batch instead");
}

TEST(VerifyMask, WindowsAreNotNegative) {
  EXPECT_EQ(error_of(window(0, kUnbounded)), kNoError);
  EXPECT_EQ(error_of(window(kBig - 1, 0)), kNoError);
  EXPECT_EQ(error_of(window(-1, 0)),
            "left of window is -1, expected 0..2147483647; write inf for no limit, and & causal for no future keys");
  EXPECT_THAT(error_of(window(0, kBig)), StartsWith("right of window is 2147483648, expected 0..2147483647; "));
  EXPECT_THAT(error_of(dilated(-1, 0, 1)), StartsWith("left of dilated is -1, "));
  EXPECT_THAT(error_of(dilated(0, -1, 1)), StartsWith("right of dilated is -1, "));
  EXPECT_EQ(error_of(dilated(4, 4, 0)), "step of dilated is 0, expected 1..2147483647; use at least 1");
}

TEST(VerifyMask, CountsAreNotNegative) {
  EXPECT_EQ(error_of(sink(0)), kNoError);
  EXPECT_EQ(error_of(sink(-1)), "n of sink is -1, expected 0..2147483647; count tokens from the start of the sequence");
  EXPECT_THAT(error_of(sink(kUnbounded)), StartsWith("n of sink is 9223372036854775807, "));
  EXPECT_THAT(error_of(global_tokens(-1)), StartsWith("n of global is -1, "));
  EXPECT_EQ(error_of(Mask{Global{.count = 3, .tokens = "t"}}),
            "global has both n = 3 and @t, expected one; join two globals with |");
}

TEST(VerifyMask, BlockAtoms) {
  EXPECT_EQ(error_of(blocks(0, "t")), "size of blocks is 0, expected 1..2147483647; use at least 1");
  EXPECT_EQ(error_of(Mask{Blocks{.size = 4, .table = "t", .offsets = "o", .indices = "i"}}),
            "blocks has both @t and lists, expected one; join two blocks with |");
  EXPECT_THAT(error_of(block_lists(4, "o", "")), StartsWith("the indices of blocks is '', "));
  EXPECT_THAT(error_of(block_lists(4, "", "i")), StartsWith("the offsets of blocks is '', "));
  EXPECT_THAT(error_of(blocks(4, "")), StartsWith("the table of blocks is '', "));
  EXPECT_THAT(error_of(bigbird(0, 3, BigBirdZero{})), StartsWith("block of bigbird is 0, "));
  EXPECT_THAT(error_of(bigbird(64, -1, BigBirdZero{})), StartsWith("random of bigbird is -1, expected 0..254; "));
  EXPECT_THAT(error_of(bigbird(64, 255, BigBirdZero{})), StartsWith("random of bigbird is 255, expected 0..254; "));
  EXPECT_THAT(error_of(bigbird(64, 3, BigBirdSeed{-1})), StartsWith("seed of bigbird is -1, expected 0..4294967295; "));
  EXPECT_THAT(error_of(bigbird(64, 3, BigBirdTable{"a b"})), StartsWith("the table of bigbird is 'a b', "));
}

TEST(VerifyMask, AtMostFourBlockAtoms) {
  const Mask four = blocks(4, "a") | blocks(4, "b") | ~(bigbird(4, 1, BigBirdZero{}) & block_lists(4, "o", "i"));
  EXPECT_EQ(error_of(four), kNoError);
  EXPECT_EQ(error_of(four & blocks(8, "e")),
            "the mask has more than 4 block atoms (blocks, bigbird); merge their tables into one");
}

TEST(VerifyMask, NamesAreWords) {
  EXPECT_EQ(error_of(documents("")),
            "the array of documents is '', expected letters, digits and _, not starting with a digit; rename it");
  EXPECT_THAT(error_of(bits("1st")), StartsWith("the array of bits is '1st', "));
  EXPECT_THAT(error_of(global_tokens("t.member")), StartsWith("the array of global is 't.member', "));
  EXPECT_THAT(error_of(bits("a\nb")), StartsWith("the array of bits is '?', "));
}

TEST(VerifyMask, AndAndOrHaveTwoOperandsAndAreFlat) {
  EXPECT_EQ(error_of(Mask{And{}}), "& has 0 operands, expected two or more; use the operand alone");
  EXPECT_EQ(error_of(Mask{Or{{all()}}}), "| has 1 operand, expected two or more; use the operand alone");
  EXPECT_EQ(error_of(Mask{Or{{all(), Mask{Or{{all(), none()}}}}}}),
            "an operand of | is itself a |, expected one flat list; build it with operator|");
  EXPECT_EQ(error_of(Mask{Or{{all(), causal() & none()}}}), kNoError);
}

TEST(VerifyMask, DepthIsLimited) {
  Mask mask = causal();
  for (int level = 1; level < kMaxTreeDepth; ++level) mask = ~std::move(mask);
  EXPECT_EQ(error_of(mask), kNoError);
  EXPECT_EQ(parse_mask(print(mask)), mask);
  EXPECT_EQ(error_of(~std::move(mask)), "a mask has more than 256 levels; use bits(@mask) instead");
}

TEST(VerifyExpression, DepthIsLimitedAndTheDeepestStillRoundTrips) {
  Expression expression = number(1);
  for (int level = 1; level < kMaxTreeDepth; ++level)
    expression = unary(UnaryKind::kNegate, q() < std::move(expression));
  EXPECT_THAT(error_of(where(expression)), StartsWith("an expression has more than 256 levels; "));
  Expression negations = number(1);
  for (int level = 1; level < kMaxTreeDepth; ++level) negations = unary(UnaryKind::kNegate, std::move(negations));
  EXPECT_EQ(error_of(where(negations)), kNoError);
  EXPECT_EQ(parse_expression(print(negations)), negations);
  Expression right = q();
  for (int level = 1; level < kMaxTreeDepth; ++level) right = k() - std::move(right);
  EXPECT_EQ(error_of(where(right)), kNoError);
  EXPECT_EQ(parse_expression(print(right)), right);
}

TEST(VerifyExpression, WhereTakesIntegersOnly) {
  EXPECT_EQ(error_of(where(equal(load("t", {q()}), h()))), kNoError);
  EXPECT_EQ(error_of(where(constant(0.5) * q() < k())),
            "the number 0.5 stands in where(...), which takes integers only; scale both sides to integers");
  EXPECT_THAT(error_of(where(load("t", {q()}, true))), StartsWith("the float array @t stands in where(...), "));
  EXPECT_THAT(error_of(where(unary(UnaryKind::kExp, q()))), StartsWith("exp(...) stands in where(...), "));
  EXPECT_THAT(error_of(where(s() < q())), StartsWith("the score s stands in where(...), "));
}

TEST(VerifyExpression, IndicesAreIntegersInScoresToo) {
  EXPECT_EQ(error_of(with_score(s() + load("t", {load("u", {h()})}, true))), kNoError);
  EXPECT_EQ(error_of(with_score(load("t", {s() > number(0)}, true))),
            "the score s stands in an index, which takes integers only; index by b, h, q, k or an int @array");
  EXPECT_THAT(error_of(with_score(load("t", {load("u", {h()}, true)}, true))),
              StartsWith("the float array @u stands in an index, "));
  EXPECT_EQ(error_of(with_score(load("t", {h()}))),
            "@t is an int array in score(...), where arrays are float; load it with is_float");
}

TEST(VerifyExpression, FloatsAreNoBitsAndNoConditions) {
  EXPECT_EQ(error_of(with_score(s() % number(2))), "% takes integers, found a float; use + - * / there");
  EXPECT_EQ(error_of(with_score(binary(BinaryKind::kShiftLeft, number(1), s()))),
            "<< takes integers, found a float; use + - * / there");
  EXPECT_EQ(error_of(with_score(!s())), "! takes a condition, found a float; compare it with 0.0");
  EXPECT_EQ(error_of(with_score(s() && q())), "&& takes a condition, found a float; compare it with 0.0");
  EXPECT_EQ(error_of(with_score(select(s(), s(), s()))),
            "select takes a condition, found a float; compare it with 0.0");
}

TEST(VerifyExpression, AtMostFourIndices) {
  EXPECT_EQ(error_of(where(load("t", {b(), h(), q(), k()}))), kNoError);
  EXPECT_EQ(error_of(where(load("t", {b(), h(), q(), k(), k()}))),
            "@t has 5 indices, at most 4 are allowed; combine two of its dimensions");
}

TEST(VerifyExpression, NumbersFitTheirTypes) {
  EXPECT_EQ(error_of(where(q() < number(kBig - 1))), kNoError);
  EXPECT_EQ(error_of(where(q() < number(-kBig))), kNoError);
  EXPECT_EQ(
      error_of(where(q() < number(kBig))),
      "a number in an expression is 2147483648, expected -2147483648..2147483647; expressions compute in 32 bits");
  EXPECT_EQ(error_of(with_score(s() * constant(1e39))),
            "a number in an expression is 1e+39, expected a finite fp32 number; use one between -3.4e38 and 3.4e38");
  EXPECT_THAT(error_of(with_score(s() * constant(kNan))), StartsWith("a number in an expression is nan, "));
}

TEST(VerifyExpression, LoweredNodesAreRefused) {
  EXPECT_EQ(error_of(where(Expression{Parameter{.index = 0}})),
            "an expression holds a parameter, which only lowered patterns may; write the number itself");
  EXPECT_THAT(error_of(where(Expression{TileCount{.slot = 0}})), StartsWith("an expression holds a tile count, "));
}

TEST(VerifyPattern, NumbersOfScoreAndPaddingAreFinite) {
  const auto score_error = [](const Score& score) {
    return error_of(Pattern{.mask = all(), .padding = {}, .score = score, .softmax = {}});
  };
  Score score;
  for (const double value : {kNan, kInfinity, -kInfinity, 1e39}) {
    score = {};
    score.scale = value;
    EXPECT_THAT(score_error(score), StartsWith("scale is ")) << value;
    score = {};
    score.softcap = value;
    EXPECT_THAT(score_error(score), StartsWith("softcap is ")) << value;
    EXPECT_THAT(error_of(Pattern{.mask = all(), .padding = PaddingAdditive{value}, .score = {}, .softmax = {}}),
                StartsWith("padding additive is "))
        << value;
  }
  for (const double value : {0.0, -1.0, 1e-60}) {
    score = {};
    score.softcap = value;
    EXPECT_THAT(score_error(score), testing::EndsWith(", expected more than 0; leave it out for no cap")) << value;
  }
  score = {};
  score.alibi = "a b";
  EXPECT_THAT(score_error(score), StartsWith("the array of alibi is 'a b', "));
  score = {};
  score.bias = "a b";
  EXPECT_THAT(score_error(score), StartsWith("the array of bias is 'a b', "));
  EXPECT_THAT(error_of(Pattern{.mask = all(), .padding = {}, .score = {}, .softmax = SoftmaxSinkLogit{""}}),
              StartsWith("the array of sink_logit is '', "));
}

TEST(VerifyPattern, AnArrayHasOneRoleAndOneRank) {
  EXPECT_EQ(error_of(Pattern{.mask = documents("a") & bits("a")}),
            "@a is used as segment ids and as bit mask, an array has one use; give the second a name of its own");
  EXPECT_EQ(
      error_of(Pattern{.mask = where(load("a", {q()}) < load("a", {q(), k()}))}),
      "@a is used as int array with 1 index and as int array with 2 indices, an array has one use; give the second "
      "a name of its own");
  EXPECT_EQ(error_of(Pattern{.mask = documents("a") & ~documents("a")}), kNoError);
}

TEST(VerifyLengths, Limits) {
  const auto lengths_error = [](LengthDistribution lengths) { return error_of(lengths); };
  EXPECT_EQ(lengths_error(FixedLength{0}), kNoError);
  EXPECT_EQ(lengths_error(FixedLength{-1}),
            "length of fixed is -1, expected 0..2147483647; positions are 32-bit integers");
  EXPECT_THAT(lengths_error(FixedLength{kBig}), StartsWith("length of fixed is 2147483648, "));
  EXPECT_EQ(lengths_error(UniformLength{.min = 5, .max = 4}),
            "lengths have min 5 above max 4, expected min <= max; swap them");
  EXPECT_THAT(lengths_error(UniformLength{.min = -5, .max = 4}), StartsWith("min of lengths is -5, "));
  EXPECT_THAT(lengths_error(LognormalLength{.mean = 9, .sigma = 1, .min = 2, .max = 1}),
              StartsWith("lengths have min"));
  for (const double mean : {0.0, -1.0, kNan, kInfinity}) {
    EXPECT_THAT(lengths_error(LognormalLength{.mean = mean, .sigma = 1, .min = 1, .max = 2}),
                StartsWith("mean of lognormal is "));
  }
  for (const double sigma : {-0.1, kNan, kInfinity}) {
    EXPECT_THAT(lengths_error(LognormalLength{.mean = 9, .sigma = sigma, .min = 1, .max = 2}),
                StartsWith("sigma of lognormal is "));
  }
  EXPECT_THAT(lengths_error(HistogramLength{}), StartsWith("histogram has 0 bins, "));
  for (const double weight : {0.0, -1.0, kNan, kInfinity}) {
    EXPECT_THAT(lengths_error(HistogramLength{{{.length = 8, .weight = weight}}}),
                StartsWith("the weight of length 8 is "));
  }
  EXPECT_THAT(lengths_error(HistogramLength{{{.length = -8, .weight = 1}}}),
              StartsWith("a length of histogram is -8, "));
  EXPECT_THAT(lengths_error(HistogramLength{{{.length = 8, .weight = 1e308}, {.length = 9, .weight = 1e308}}}),
              StartsWith("the weights of histogram add up to inf, "));
  EXPECT_EQ(lengths_error(TraceLength{.path = "not loaded yet", .lengths = {}}), kNoError);
  EXPECT_THAT(lengths_error(TraceLength{}), StartsWith("trace has an empty path, "));
  EXPECT_THAT(lengths_error(TraceLength{.path = "a\nb", .lengths = {}}),
              StartsWith("the path of trace holds control "));
  EXPECT_THAT(lengths_error(TraceLength{.path = "a", .lengths = {-1}}), StartsWith("a length of trace is -1, "));
}

TEST(VerifyWorkload, NameAndBatch) {
  EXPECT_EQ(error_of(Workload{}), kNoError);
  EXPECT_THAT(error_of(Workload{.name = "two words"}), StartsWith("the name of the workload is 'two words', "));
  EXPECT_EQ(error_of(Workload{.batch = 0}), "batch is 0, expected 1..2147483647; a batch has at least one sequence");
  EXPECT_THAT(error_of(Workload{.shape = {.heads = 0}}), StartsWith("heads is 0"));
  EXPECT_THAT(error_of(Workload{.lengths = FixedLength{-1}}), StartsWith("length of fixed is -1"));
  EXPECT_THAT(error_of(Workload{.pattern = {.mask = sink(-1)}}), StartsWith("n of sink is -1"));
}

TEST(ArrayUses, NamesEveryArrayOnceInOrderOfAppearance) {
  const Pattern pattern = parse_workload(R"(attention a {
    mask global(@g) | documents(@d) & blocks(4, @t) | ~blocks(4, @o, @i) | bigbird(4, 1, @r) | bits(@m) | where(@w[@x[q], k] == @g2)
         | documents(@d)
    score alibi(@slopes) bias(@bias) score(s + @f[h, @x[q]])
    softmax sink_logit(@logits)
  })")
                              .pattern;
  EXPECT_EQ(array_uses(pattern), (std::vector<ArrayUse>{
                                     {.name = "g", .role = ArrayRole::kGlobalTokens},
                                     {.name = "d", .role = ArrayRole::kSegment},
                                     {.name = "t", .role = ArrayRole::kBlockTable},
                                     {.name = "o", .role = ArrayRole::kBlockOffsets},
                                     {.name = "i", .role = ArrayRole::kBlockIndices},
                                     {.name = "r", .role = ArrayRole::kRandomBlocks},
                                     {.name = "m", .role = ArrayRole::kBits},
                                     {.name = "w", .role = ArrayRole::kExpressionInt, .rank = 2},
                                     {.name = "x", .role = ArrayRole::kExpressionInt, .rank = 1},
                                     {.name = "g2", .role = ArrayRole::kExpressionInt, .rank = 0},
                                     {.name = "slopes", .role = ArrayRole::kAlibiSlopes},
                                     {.name = "bias", .role = ArrayRole::kBias},
                                     {.name = "f", .role = ArrayRole::kExpressionFloat, .rank = 2},
                                     {.name = "logits", .role = ArrayRole::kSinkLogits},
                                 }));
  EXPECT_TRUE(array_uses(Pattern{}).empty());
}

}  // namespace
}  // namespace harrier
