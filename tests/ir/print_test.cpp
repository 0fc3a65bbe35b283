// The printed form: fixed order, every default spelled out, the fewest parentheses that a reader needs.
#include <gtest/gtest.h>

#include "ir/lowered.h"
#include "ir/plan.h"
#include "ir/text.h"

namespace harrier {
namespace {

using namespace harrier::var;

TEST(Print, WorkloadSpellsOutEveryDefault) {
  EXPECT_EQ(print(Workload{.name = "tiny"}),
            "attention tiny {\n"
            "  heads 1  kv_heads 1  head_dim 64  value_dim 64  dtype fp32  direction forward\n"
            "  mask    all\n"
            "  padding excluded\n"
            "  score   scale(default)\n"
            "  softmax standard\n"
            "  lengths fixed(1024)  batch 1\n"
            "}\n");
}

TEST(Print, CanonicalTextIsOneLineWithoutNameLengthsAndBatch) {
  Workload workload = parse_workload(R"(attention bigbird_base {
    heads 12 head_dim 64 dtype bf16
    mask bigbird(block=64, random=3, @table)
    padding additive(-10000)
    score scale(0.125)
    lengths lognormal(mean=1800, sigma=0.6, min=16, max=4096) batch 32
  })");
  const std::string canonical = canonical_text(workload.pattern, workload.shape);
  EXPECT_EQ(canonical,
            "heads 12 kv_heads 12 head_dim 64 value_dim 64 dtype bf16 direction forward "
            "mask bigbird(block=64, random=3, @table) padding additive(-10000) score scale(0.125) softmax standard");
  workload.name = "another";
  workload.lengths = FixedLength{1};
  workload.batch = 7;
  EXPECT_EQ(canonical_text(workload.pattern, workload.shape), canonical);
}

TEST(Print, MaskKeepsItsGrouping) {
  EXPECT_EQ(print((window(256, 0) & causal()) | sink(4)), "window(256, 0) & causal | sink(4)");
  EXPECT_EQ(print((window(kUnbounded, 0) | causal()) & ~sink(4)), "(window(inf, 0) | causal) & ~sink(4)");
  EXPECT_EQ(print(~(causal() & sink(4))), "~(causal & sink(4))");
  EXPECT_EQ(print(~~causal()), "~~causal");
}

TEST(Print, MaskArguments) {
  EXPECT_EQ(print(dilated(8, kUnbounded, 2)), "dilated(8, inf, 2)");
  EXPECT_EQ(print(prefix(3)), "sink(3)");
  EXPECT_EQ(print(global_tokens("t", GlobalSide::kKeys)), "global(@t, keys)");
  EXPECT_EQ(print(global_tokens(3, GlobalSide::kQueries)), "global(3, queries)");
  EXPECT_EQ(print(block_lists(64, "o", "i", true)), "blocks(64, @o, @i, counted)");
  EXPECT_EQ(print(bigbird(64, 3, BigBirdSeed{7})), "bigbird(block=64, random=3, seed=7)");
  EXPECT_EQ(print(bigbird(64, 3, BigBirdZero{})), "bigbird(block=64, random=3, zero)");
}

TEST(Print, ExpressionUsesParenthesesWhereReadersNeedThem) {
  EXPECT_EQ(print(q() - k() - b()), "q - k - b");
  EXPECT_EQ(print(q() - (k() - b())), "q - (k - b)");
  EXPECT_EQ(print((q() + k()) * b()), "(q + k) * b");
  EXPECT_EQ(print(equal(q() < k(), b())), "(q < k) == b");
  EXPECT_EQ(print(binary(BinaryKind::kBitAnd, q(), equal(k(), b()))), "q & (k == b)");
  EXPECT_EQ(print(!(q() < k()) && !b()), "!(q < k) && !b");
  EXPECT_EQ(print(unary(UnaryKind::kNegate, constant(int64_t{-3}))), "-(-3)");
  EXPECT_EQ(print(select(q() < k(), load("a", {b(), h()}), load("n", {}))), "select(q < k, @a[b, h], @n)");
}

TEST(Print, FloatsAreShortAndStayFloats) {
  EXPECT_EQ(print(constant(2.0)), "2.0");
  EXPECT_EQ(print(constant(0.1)), "0.1");
  EXPECT_EQ(print(constant(-1e30)), "-1e+30");
  EXPECT_EQ(print(constant(1.0 / 3.0)), "0.3333333333333333");
}

TEST(Print, LengthsOfEveryKind) {
  EXPECT_EQ(print(LengthDistribution(LognormalLength{.mean = 1800, .sigma = 0.6, .min = 16, .max = 4096})),
            "lognormal(mean=1800, sigma=0.6, min=16, max=4096)");
  EXPECT_EQ(print(LengthDistribution(HistogramLength{{{.length = 512, .weight = 0.3}, {.length = 8, .weight = 2}}})),
            "histogram(512: 0.3, 8: 2)");
  EXPECT_EQ(print(LengthDistribution(TraceLength{.path = R"(a"b\c)", .lengths = {5}})), R"(trace("a\"b\\c"))");
}

TEST(Print, PlanIsOneLine) {
  EXPECT_EQ(
      print(CpuPlan{.tile_q = 64, .tile_k = 128, .vector_lanes = 8, .q_vectors = 4, .key_block = 6, .value_block = 3}),
      "tile 64x128, 8 lanes, blocks 4x6 and 4x3");
}

LoweredPattern lowered_window(int64_t left) {
  return {.visible = (q() - k() <= Expression{Parameter{.index = 3}}) && Expression{TileCount{.slot = 1}},
          .score = s() * Expression{Parameter{.index = 0, .is_float = true}},
          .softmax = SoftmaxKind::kSinkLogit,
          .sink_logits = "sink",
          .counted = true,
          .table_slots = 2,
          .arrays = {{.name = "t.member", .element = ArraySlot::Element::kUInt8, .rank = 1}},
          .int_values = {left, 7},
          .float_values = {0.5}};
}

TEST(Print, LoweredPatternHasOneLineAField) {
  EXPECT_EQ(print(lowered_window(5)),
            "visible q - k <= int[3] && table[1]\n"
            "score s * float[0]\n"
            "softmax sink_logit(@sink)\n"
            "counted true\n"
            "table_slots 2\n"
            "arrays @t.member: uint8 rank 1;\n"
            "int_values [5, 7]\n"
            "float_values [0.5]\n");
}

TEST(Print, StructuralTextLeavesOutTheValues) {
  EXPECT_NE(print(lowered_window(5)), print(lowered_window(6)));
  EXPECT_EQ(structural_text(lowered_window(5)), structural_text(lowered_window(6)));
  LoweredPattern other = lowered_window(5);
  other.table_slots = 1;
  EXPECT_NE(structural_text(other), structural_text(lowered_window(5)));
}

}  // namespace
}  // namespace harrier
