// Gradients of every pattern on the CPU backend against the double-precision oracle.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "support/backward_case.h"
#include "support/random_pattern.h"

namespace harrier {
namespace {

void expect_matches_oracle(const AttentionCase& test, ForwardBy forward_by = ForwardBy::kOracle) {
  SCOPED_TRACE(describe(test));
  const BackwardErrors errors = run_backward_case(test, {}, forward_by);
  const double tolerance = backward_tolerance_of(test.workload.shape.dtype);
  EXPECT_LE(errors.d_q, tolerance);
  EXPECT_LE(errors.d_k, tolerance);
  EXPECT_LE(errors.d_v, tolerance);
  EXPECT_LE(errors.d_arrays, tolerance);
  EXPECT_TRUE(errors.empty_is_zero) << "a query or a key without a pair has a gradient";
  EXPECT_TRUE(errors.canaries_intact) << "something was written outside the gradients";
}

bool is_thorough() { return std::getenv("HARRIER_TEST_THOROUGH") != nullptr; }

Workload workload_of(Mask mask, Shape shape) {
  return {.name = "test", .shape = shape, .pattern = {.mask = std::move(mask)}, .lengths = FixedLength{64}};
}

const std::vector<int64_t> kAwkwardLengths = {0, 1, 63, 64, 65, 130};

TEST(Backward, MatchesTheOracleForEachAtomOnAwkwardLengths) {
  const std::vector<Mask> masks = {all(),
                                   none(),
                                   causal(),
                                   window(16, 0),
                                   window(70, 33),
                                   dilated(90, 90, 3),
                                   sink(5),
                                   global_tokens("tokens"),
                                   documents("segment"),
                                   blocks(16, "table"),
                                   blocks(64, "table", true),
                                   block_lists(32, "offsets", "indices", true),
                                   bigbird(16, 2, BigBirdTable{"random"}),
                                   bits("mask"),
                                   ~window(10, 10),
                                   (blocks(32, "table") & causal()) | global_tokens(2)};
  uint64_t seed = 1;
  for (const Mask& mask : masks) {
    const Shape shape{.heads = 2, .kv_heads = 2, .head_dim = 32, .value_dim = 32};
    expect_matches_oracle(
        {workload_of(mask, shape), packed_geometry(kAwkwardLengths, kAwkwardLengths), LayoutKind::kPacked, seed++});
  }
}

TEST(Backward, AlignsQueriesToTheEndOfLongerKeys) {
  uint64_t seed = 50;
  for (const Mask& mask : {causal(), window(20, 3), documents("segment")}) {
    const Shape shape{.heads = 1, .kv_heads = 1, .head_dim = 16, .value_dim = 16};
    expect_matches_oracle({workload_of(mask, shape), packed_geometry({1, 7, 65, 30, 5, 0}, {100, 64, 130, 20, 0, 9}),
                           LayoutKind::kPacked, seed++});
  }
}

TEST(Backward, WorksForHeadDimsOfWholeAndHalfVectors) {
  const std::vector<std::pair<int64_t, int64_t>> dims = {{16, 16}, {24, 40},   {64, 64},  {80, 72},
                                                         {88, 96}, {192, 128}, {16, 256}, {256, 16}};
  for (const auto& [head_dim, value_dim] : dims) {
    const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = head_dim, .value_dim = value_dim};
    expect_matches_oracle({workload_of(causal(), shape), packed_geometry({70, 3}, {70, 3}), LayoutKind::kPacked,
                           static_cast<uint64_t>(head_dim)});
  }
}

TEST(Backward, SumsOverTheQueryHeadsThatShareKeysAndValues) {
  for (const auto& [heads, kv_heads] : std::vector<std::pair<int64_t, int64_t>>{{8, 8}, {8, 2}, {8, 1}, {6, 3}}) {
    const Shape shape{.heads = heads, .kv_heads = kv_heads, .head_dim = 24, .value_dim = 24};
    expect_matches_oracle({workload_of(blocks(16, "table") | causal(), shape), packed_geometry({100, 33}, {100, 33}),
                           LayoutKind::kPacked, 11});
  }
}

TEST(Backward, ReadsAndWritesEveryDtypeInEveryLayout) {
  for (const DataType dtype : {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16}) {
    for (const LayoutKind layout : {LayoutKind::kPacked, LayoutKind::kBatchHeadLength, LayoutKind::kBatchLengthHead}) {
      const Shape shape{.heads = 3, .kv_heads = 3, .head_dim = 40, .value_dim = 56, .dtype = dtype};
      const bool packed = layout == LayoutKind::kPacked;
      const Geometry geometry = packed ? packed_geometry({130, 5}, {130, 5}) : padded_geometry(130, {130, 77, 0});
      expect_matches_oracle({workload_of(window(40, 8) | sink(2), shape), geometry, layout, 21}, ForwardBy::kKernel);
    }
  }
}

TEST(Backward, TreatsPaddingAsThePatternSays) {
  for (const Padding& padding : std::vector<Padding>{PaddingExcluded{}, PaddingAdditive{-1.5}}) {
    for (const Mask& mask : {all(), causal(), window(9, 60), blocks(32, "table", true)}) {
      for (const Softmax& softmax : std::vector<Softmax>{SoftmaxStandard{}, SoftmaxPrunedAsZero{}}) {
        Workload workload = workload_of(mask, {.heads = 2, .kv_heads = 2, .head_dim = 16, .value_dim = 16});
        workload.pattern.padding = padding;
        workload.pattern.softmax = softmax;
        expect_matches_oracle({workload, padded_geometry(112, {112, 70, 1, 0}), LayoutKind::kBatchHeadLength, 31});
      }
    }
  }
}

/// Scores with every step, and arrays that are read in every way: by head, by query, by key, by distance, alone, twice.
std::vector<Score> learned_scores() {
  using namespace var;
  std::vector<Score> scores(9);
  scores[1].scale = 0.5;
  scores[2].softcap = 1.5;
  scores[3].alibi = "slopes";
  scores[4].bias = "bias";
  scores[5].expression = s() * load("gain", {h()}, true) + load("offset", {}, true);
  scores[6] = {.scale = 0.25,
               .softcap = 3.0,
               .alibi = "slopes",
               .bias = "bias",
               .expression = select(s() > constant(0.0) && q() >= k(), s(), unary(UnaryKind::kTanh, s()))};
  scores[7].expression = unary(UnaryKind::kLog, unary(UnaryKind::kExp, s()) + constant(1.0)) -
                         unary(UnaryKind::kSqrt, unary(UnaryKind::kAbs, s()) + constant(0.1));
  scores[8].expression = s() * load("by_query", {h(), q()}, true) + load("by_key", {k() % constant(int64_t{7})}, true) +
                         load("by_key", {q() % constant(int64_t{7})}, true) +
                         load("by_distance", {(q() + k()) % constant(int64_t{9})}, true);
  return scores;
}

TEST(Backward, DifferentiatesEachScoreStepAndSoftmaxModeAndTheirArrays) {
  const std::vector<Softmax> modes = {SoftmaxStandard{}, SoftmaxPrunedAsZero{}, SoftmaxSinkLogit{"sinks"}};
  const std::vector<Score> scores = learned_scores();
  const auto expect = [&](const Score& score, const Softmax& softmax, const Mask& mask, uint64_t seed) {
    Workload workload = workload_of(mask, {.heads = 3, .kv_heads = 1, .head_dim = 16, .value_dim = 24});
    workload.pattern.score = score;
    workload.pattern.softmax = softmax;
    expect_matches_oracle({workload, packed_geometry({80, 17}, {80, 17}), LayoutKind::kPacked, seed});
  };
  for (size_t i = 0; i < scores.size(); ++i) {
    for (size_t mode = 0; mode < modes.size(); ++mode) {
      if (is_thorough() || mode == i % modes.size()) expect(scores[i], modes[mode], window(20, 10), 61 + 3 * i + mode);
    }
  }
  expect(scores[6], modes[2], none(), 99);
  expect(scores[8], modes[1], none(), 99);
}

TEST(Backward, MatchesTheOracleOnRandomPatterns) {
  const uint64_t first_seed = std::random_device{}();
  const std::vector<Score> scores = learned_scores();
  for (uint64_t seed = first_seed; seed < first_seed + (is_thorough() ? 400 : 16); ++seed) {
    std::mt19937_64 random(seed);
    const bool same_lengths = seed % 2 == 0;
    MaskChoices choices;
    choices.bigbird = same_lengths;
    choices.block_sizes = {8, 16, 24, 64};
    Workload workload =
        workload_of(random_mask(random, choices), {.heads = 2, .kv_heads = 1, .head_dim = 16, .value_dim = 16});
    if (seed % 3 == 0) workload.pattern.score = scores[random() % scores.size()];
    if (seed % 5 == 0) workload.pattern.softmax = SoftmaxPrunedAsZero{};
    if (seed % 7 == 0) workload.pattern.padding = PaddingAdditive{-2.0};
    const Geometry geometry = random_geometry(random, 3, 120, same_lengths);
    bool packed = true;
    for (const Sequence& sequence : geometry.sequences) {
      packed = packed && sequence.query_valid == sequence.query_length && sequence.key_valid == sequence.key_length;
    }
    expect_matches_oracle({workload, geometry, packed ? LayoutKind::kPacked : LayoutKind::kBatchHeadLength, seed});
  }
}

}  // namespace
}  // namespace harrier
