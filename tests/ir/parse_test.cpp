// What the text says is what the builders build.
#include <gtest/gtest.h>

#include "ir/error.h"
#include "ir/text.h"

namespace harrier {
namespace {

using namespace harrier::var;

TEST(ParseMask, AtomsReadAsTheirBuilders) {
  EXPECT_EQ(parse_mask("all"), all());
  EXPECT_EQ(parse_mask("none"), none());
  EXPECT_EQ(parse_mask("causal"), causal());
  EXPECT_EQ(parse_mask("causal()"), causal());
  EXPECT_EQ(parse_mask("window(256, 0)"), window(256, 0));
  EXPECT_EQ(parse_mask("window(inf, 3)"), window(kUnbounded, 3));
  EXPECT_EQ(parse_mask("window(right=3, left=inf)"), window(kUnbounded, 3));
  EXPECT_EQ(parse_mask("dilated(8, 2)"), dilated(8, 8, 2));
  EXPECT_EQ(parse_mask("dilated(window=8, step=2)"), dilated(8, 8, 2));
  EXPECT_EQ(parse_mask("dilated(8, 0, 2)"), dilated(8, 0, 2));
  EXPECT_EQ(parse_mask("dilated(8, right=0, step=2)"), dilated(8, 0, 2));
  EXPECT_EQ(parse_mask("sink(4)"), sink(4));
  EXPECT_EQ(parse_mask("prefix(4)"), sink(4));
  EXPECT_EQ(parse_mask("sink(n=4)"), sink(4));
  EXPECT_EQ(parse_mask("global(2)"), global_tokens(2));
  EXPECT_EQ(parse_mask("global(2, keys)"), global_tokens(2, GlobalSide::kKeys));
  EXPECT_EQ(parse_mask("global(@t)"), global_tokens("t"));
  EXPECT_EQ(parse_mask("global(@t, queries)"), global_tokens("t", GlobalSide::kQueries));
  EXPECT_EQ(parse_mask("documents(@segment)"), documents("segment"));
  EXPECT_EQ(parse_mask("bits(@m)"), bits("m"));
}

TEST(ParseMask, BlockAtomsReadAsTheirBuilders) {
  EXPECT_EQ(parse_mask("blocks(64, @t)"), blocks(64, "t"));
  EXPECT_EQ(parse_mask("blocks(64, @t, counted)"), blocks(64, "t", true));
  EXPECT_EQ(parse_mask("blocks(size=64, table=@t)"), blocks(64, "t"));
  EXPECT_EQ(parse_mask("blocks(64, @o, @i)"), block_lists(64, "o", "i"));
  EXPECT_EQ(parse_mask("blocks(64, indices=@i, offsets=@o, counted)"), block_lists(64, "o", "i", true));
  EXPECT_EQ(parse_mask("bigbird(block=64, random=3, @t)"), bigbird(64, 3, BigBirdTable{"t"}));
  EXPECT_EQ(parse_mask("bigbird(64, 3, @t)"), bigbird(64, 3, BigBirdTable{"t"}));
  EXPECT_EQ(parse_mask("bigbird(block=64, random=3, seed=7)"), bigbird(64, 3, BigBirdSeed{7}));
  EXPECT_EQ(parse_mask("bigbird(random=3, block=64, zero)"), bigbird(64, 3, BigBirdZero{}));
}

TEST(ParseMask, NotBindsTighterThanAndTighterThanOr) {
  EXPECT_EQ(parse_mask("window(256, 0) & causal() | sink(4)"), (window(256, 0) & causal()) | sink(4));
  EXPECT_EQ(parse_mask("sink(4) | window(256, 0) & ~causal"), sink(4) | (window(256, 0) & ~causal()));
  EXPECT_EQ(parse_mask("(sink(4) | causal) & ~~all"), (sink(4) | causal()) & ~~all());
}

TEST(ParseMask, AndAndOrAreFlatHoweverTheyAreGrouped) {
  const Mask flat{And{{causal(), sink(1), sink(2)}}};
  EXPECT_EQ(parse_mask("causal & sink(1) & sink(2)"), flat);
  EXPECT_EQ(parse_mask("(causal & sink(1)) & sink(2)"), flat);
  EXPECT_EQ(parse_mask("causal & (sink(1) & sink(2))"), flat);
}

TEST(ParseMask, WhereHoldsAnIntExpression) {
  EXPECT_EQ(
      parse_mask("where(@t[b, k / 64] == 1 && h < 2)"),
      where(equal(load("t", {b(), k() / constant(int64_t{64})}), constant(int64_t{1})) && h() < constant(int64_t{2})));
}

Expression one() { return constant(int64_t{1}); }
Expression parse_where(std::string_view text) { return parse_expression(text, ExpressionUse::kWhere); }

TEST(ParseExpression, PrecedenceIsThatOfC) {
  const auto make = [](BinaryKind kind, Expression left, Expression right) {
    return binary(kind, std::move(left), std::move(right));
  };
  EXPECT_EQ(parse_where("q + k * b"), q() + k() * b());
  EXPECT_EQ(parse_where("q - k - b"), (q() - k()) - b());
  EXPECT_EQ(parse_where("q - (k - b)"), q() - (k() - b()));
  EXPECT_EQ(parse_where("q < k && b < h || q >= h"), (q() < k() && b() < h()) || q() >= h());
  EXPECT_EQ(parse_where("q & k == b"), make(BinaryKind::kBitAnd, q(), equal(k(), b())));
  EXPECT_EQ(parse_where("q | k ^ b & h"),
            make(BinaryKind::kBitOr, q(), make(BinaryKind::kBitXor, k(), make(BinaryKind::kBitAnd, b(), h()))));
  EXPECT_EQ(parse_where("q << 1 + k < b"), make(BinaryKind::kShiftLeft, q(), one() + k()) < b());
  EXPECT_EQ(parse_where("q < k != b > h"), not_equal(q() < k(), b() > h()));
  EXPECT_EQ(parse_where("!q == -k % 2"), equal(!q(), unary(UnaryKind::kNegate, k()) % constant(int64_t{2})));
}

TEST(ParseExpression, AMinusBeforeANumberIsPartOfTheNumber) {
  EXPECT_EQ(parse_where("-1"), constant(int64_t{-1}));
  EXPECT_EQ(parse_where("q - -1"), q() - constant(int64_t{-1}));
  EXPECT_EQ(parse_where("-(1)"), unary(UnaryKind::kNegate, one()));
  EXPECT_EQ(parse_where("-9223372036854775808"), constant(std::numeric_limits<int64_t>::min()));
  EXPECT_EQ(parse_expression("-0.5", ExpressionUse::kScore), constant(-0.5));
}

TEST(ParseExpression, CallsAndVariables) {
  EXPECT_EQ(parse_where("min(q_len, max(kv_len, abs(q_token - k_token)))"),
            binary(BinaryKind::kMin, q_len(),
                   binary(BinaryKind::kMax, kv_len(), unary(UnaryKind::kAbs, q_token() - k_token()))));
  EXPECT_EQ(parse_where("select(q < k, 1, b)"), select(q() < k(), one(), b()));
  EXPECT_EQ(parse_where("clamp(q, 1, k)"), parse_where("min(max(q, 1), k)"));
  EXPECT_EQ(parse_expression("exp(log(sqrt(tanh(s))))", ExpressionUse::kScore),
            unary(UnaryKind::kExp, unary(UnaryKind::kLog, unary(UnaryKind::kSqrt, unary(UnaryKind::kTanh, s())))));
}

TEST(ParseExpression, ArraysAreFloatInScoreAndIntInWhereAndInIndices) {
  EXPECT_EQ(parse_where("@a[@b[q]]"), load("a", {load("b", {q()})}));
  EXPECT_EQ(parse_expression("s + @a[@b[q]] * @c", ExpressionUse::kScore),
            s() + load("a", {load("b", {q()})}, true) * load("c", {}, true));
}

TEST(ParseWorkload, LeftOutClausesHaveDefaults) {
  const Workload workload = parse_workload("attention tiny { }");
  EXPECT_EQ(workload, (Workload{.name = "tiny"}));
  EXPECT_EQ(parse_workload("attention {}"), Workload{});
}

TEST(ParseWorkload, HeadsOfKeysAndValuesFollowThoseOfQueries) {
  const Shape shape = parse_workload("attention a { heads 12 head_dim 128 }").shape;
  EXPECT_EQ(shape.kv_heads, 12);
  EXPECT_EQ(shape.value_dim, 128);
  const Shape given = parse_workload("attention a { value_dim 32 kv_heads 4 heads 12 head_dim 128 }").shape;
  EXPECT_EQ(given.kv_heads, 4);
  EXPECT_EQ(given.value_dim, 32);
}

TEST(ParseWorkload, EveryClauseInAnyOrder) {
  const Workload expected{.name = "everything",
                          .shape = {.heads = 8,
                                    .kv_heads = 2,
                                    .head_dim = 96,
                                    .value_dim = 64,
                                    .dtype = DataType::kFloat16,
                                    .direction = Direction::kBackward},
                          .pattern = {.mask = causal(),
                                      .padding = PaddingAdditive{-10000},
                                      .score = {.scale = 0.125,
                                                .softcap = 30,
                                                .alibi = "slopes",
                                                .bias = "bias",
                                                .expression = s() * constant(2.0)},
                                      .softmax = SoftmaxSinkLogit{"logits"}},
                          .lengths = UniformLength{.min = 16, .max = 4096},
                          .batch = 32};
  EXPECT_EQ(parse_workload(R"(# A comment before
    attention everything {   # and after
      batch 32
      lengths uniform(16, 4096)
      softmax sink_logit(@logits)
      score scale(0.125) softcap(30) alibi(@slopes) bias(@bias) score(s * 2.0)
      padding additive(-10000)
      mask causal
      direction backward dtype fp16 value_dim 64 head_dim 96 kv_heads 2 heads 8
    })"),
            expected);
}

TEST(ParseWorkload, DeterministicGradients) {
  const auto shape = [](const std::string& text) { return parse_workload("attention a { " + text + " }").shape; };
  EXPECT_TRUE(shape("direction backward deterministic heads 2").deterministic);
  EXPECT_FALSE(shape("direction backward heads 2").deterministic);
  EXPECT_THROW(shape("direction forward deterministic"), InvalidInput);
}

TEST(ParseWorkload, EveryLengthDistribution) {
  const auto lengths = [](const std::string& text) {
    return parse_workload("attention a { lengths " + text + " }").lengths;
  };
  EXPECT_EQ(lengths("fixed(5)"), LengthDistribution(FixedLength{5}));
  EXPECT_EQ(lengths("uniform(min=1, max=5)"), LengthDistribution(UniformLength{.min = 1, .max = 5}));
  EXPECT_EQ(lengths("lognormal(mean=1800, sigma=0.6, min=16, max=4096)"),
            LengthDistribution(LognormalLength{.mean = 1800, .sigma = 0.6, .min = 16, .max = 4096}));
  EXPECT_EQ(lengths("histogram(512: 0.3, 1024: 7e-1)"),
            LengthDistribution(HistogramLength{{{.length = 512, .weight = 0.3}, {.length = 1024, .weight = 0.7}}}));
  EXPECT_EQ(lengths(R"(trace("a \"b\" c\\d.csv"))"),
            LengthDistribution(TraceLength{.path = R"(a "b" c\d.csv)", .lengths = {}}));
}

TEST(ParseWorkload, ByteOrderMarkAndCarriageReturnsAreBlanks) {
  EXPECT_EQ(parse_workload("\xEF\xBB\xBF"
                           "attention a {\r\n  heads 2 # two\r\n}\r\n")
                .shape.heads,
            2);
}

TEST(ParseWorkload, TheScaleMayBeLeftToTheHeadDim) {
  EXPECT_EQ(parse_workload("attention a { score scale(default) softcap(2) }").pattern.score,
            (Score{.scale = {}, .softcap = 2.0, .alibi = {}, .bias = {}, .expression = {}}));
}

/// `left` n times, `middle`, `right` n times.
std::string nest(int levels, const std::string& left, const std::string& middle, const std::string& right) {
  std::string text;
  for (int i = 0; i < levels; ++i) text += left;
  text += middle;
  for (int i = 0; i < levels; ++i) text += right;
  return text;
}

TEST(ParseLimits, DeepNestingIsAnErrorNotAStackOverflow) {
  constexpr int kDeep = 200'000;
  EXPECT_THROW(parse_mask(nest(kDeep, "(", "all", ")")), InvalidInput);
  EXPECT_THROW(parse_mask(nest(kDeep, "~", "all", "")), InvalidInput);
  EXPECT_THROW(parse_where(nest(kDeep, "(", "q", ")")), InvalidInput);
  EXPECT_THROW(parse_where(nest(kDeep, "-", "q", "")), InvalidInput);
  EXPECT_THROW(parse_where(nest(kDeep, "!", "q", "")), InvalidInput);
  EXPECT_THROW(parse_where(nest(kDeep, "abs(", "q", ")")), InvalidInput);
  EXPECT_THROW(parse_where(nest(kDeep, "@a[", "q", "]")), InvalidInput);
  EXPECT_THROW(parse_where(nest(kDeep, "q+", "q", "")), InvalidInput);
}

TEST(ParseLimits, AMaskOfManyOperandsIsFlatAndAllowed) {
  const Mask mask = parse_mask(nest(10'000, "sink(4) | ", "all", ""));
  EXPECT_EQ(std::get<Or>(mask.node).operands.size(), 10'001U);
}

TEST(ParseLimits, AnExpressionOf256LevelsIsTheLast) {
  EXPECT_NO_THROW(parse_where(nest(255, "q+", "q", "")));
  EXPECT_THROW(parse_where(nest(256, "q+", "q", "")), InvalidInput);
}

TEST(ParseLimits, TextPastOneMebibyteIsRefused) {
  const std::string text = "attention a { }" + std::string(std::size_t{1} << 20U, ' ');
  try {
    parse_workload(text);
    FAIL() << "a text of " << text.size() << " bytes was read";
  } catch (const InvalidInput& error) {
    EXPECT_STREQ(error.what(), "the text has 1048591 bytes, at most 1048576 are read; move numbers into @arrays");
  }
}

}  // namespace
}  // namespace harrier
