// Every pattern on the GPU against the double-precision oracle, through the same calls that users make.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "compiler/cuda/plan_space.h"
#include "compiler/passes/choose_plan.h"
#include "masks.h"
#include "support/random_pattern.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using test::expect_matches_oracle;
using test::Kernels;
using test::shape_of;
using test::workload_of;

const std::vector<int64_t> kAwkwardLengths = {0, 1, 63, 64, 65, 127, 200};

struct MaskCase {
  std::string name;
  Mask mask;
  Kernels kernels;
  bool slow;  // left out where not every case is taken: the two families take turns
};

std::vector<MaskCase> mask_cases() {
  std::vector<MaskCase> cases;
  for (const test::NamedMask& named : test::masks()) {
    const bool even = cases.size() % 4 == 0;
    cases.push_back({std::string(named.name) + "_own", named.mask, Kernels::kOwn, !even});
    cases.push_back({std::string(named.name) + "_portable", named.mask, Kernels::kPortable, even});
  }
  return cases;
}

void PrintTo(const MaskCase& mask_case, std::ostream* out) { *out << mask_case.name; }

class GpuMasks : public testing::TestWithParam<MaskCase> {};

TEST_P(GpuMasks, MatchTheOracleOnAwkwardLengths) {
  if (!test::is_thorough() && GetParam().slow) GTEST_SKIP() << "the other family covers it here";
  expect_matches_oracle({workload_of(GetParam().mask, shape_of(2, 1, 64)),
                         packed_geometry(kAwkwardLengths, kAwkwardLengths), LayoutKind::kPacked, 7},
                        GetParam().kernels);
}

INSTANTIATE_TEST_SUITE_P(All, GpuMasks, testing::ValuesIn(mask_cases()),
                         [](const auto& instance) { return instance.param.name; });

/// Both families where every case is taken, else the one whose turn it is.
void expect_forward_in_turn(const AttentionCase& test, uint64_t turn) {
  const bool own = turn % 2 == 0;
  if (own || test::is_thorough()) expect_matches_oracle(test, Kernels::kOwn);
  if (!own || test::is_thorough()) expect_matches_oracle(test, Kernels::kPortable);
}

TEST(GpuForward, AlignsQueriesToTheEndOfLongerKeys) {
  uint64_t seed = 50;
  for (const Mask& mask : {causal(), window(20, 3), documents("segment")}) {
    expect_forward_in_turn(
        {workload_of(mask, shape_of(1, 1, 64)),
         packed_geometry({1, 7, 65, 30, 5, 0, 200}, {100, 64, 130, 20, 0, 9, 333}), LayoutKind::kPacked, seed},
        seed);
    ++seed;
  }
}

class GpuHeadDims : public testing::TestWithParam<int64_t> {};

TEST_P(GpuHeadDims, MatchTheOracle) {
  const int64_t dim = GetParam();
  const std::vector<int64_t> some = {16, 80, 128, 192, 256};
  if (!test::is_thorough() && std::ranges::find(some, dim) == some.end()) GTEST_SKIP() << "others cover it here";
  expect_forward_in_turn({workload_of(causal(), shape_of(1, 1, dim)), packed_geometry({150}, {150}),
                          LayoutKind::kPacked, static_cast<uint64_t>(dim)},
                         static_cast<uint64_t>(dim / 16));
}

INSTANTIATE_TEST_SUITE_P(MultiplesOf8, GpuHeadDims, testing::Range<int64_t>(16, 257, 8));

TEST(GpuForward, AllowsTheValueHeadDimToDiffer) {
  uint64_t seed = 70;
  for (const auto& [head_dim, value_dim] :
       std::vector<std::pair<int64_t, int64_t>>{{192, 128}, {64, 256}, {256, 64}, {40, 72}}) {
    expect_forward_in_turn({workload_of(window(30, 5), shape_of(2, 1, head_dim, value_dim)),
                            packed_geometry({190}, {190}), LayoutKind::kPacked, seed},
                           seed);
    ++seed;
  }
}

TEST(GpuForward, SharesKeysAndValuesBetweenQueryHeads) {
  for (const auto& [heads, kv_heads] : std::vector<std::pair<int64_t, int64_t>>{{8, 8}, {8, 2}, {8, 1}, {6, 3}}) {
    expect_forward_in_turn({workload_of(blocks(64, "table") | causal(), shape_of(heads, kv_heads, 64)),
                            packed_geometry({100, 33}, {100, 33}), LayoutKind::kPacked, 11},
                           static_cast<uint64_t>(kv_heads));
  }
}

TEST(GpuForward, ReadsAndWritesBothDtypesInEveryLayout) {
  uint64_t turn = 0;
  for (const DataType dtype : {DataType::kBFloat16, DataType::kFloat16}) {
    for (const LayoutKind layout : {LayoutKind::kPacked, LayoutKind::kBatchHeadLength, LayoutKind::kBatchLengthHead}) {
      Shape shape = shape_of(3, 3, 40, 56);
      shape.dtype = dtype;
      const bool packed = layout == LayoutKind::kPacked;
      const Geometry geometry = packed ? packed_geometry({130, 5}, {130, 5}) : padded_geometry(130, {130, 77, 0});
      expect_forward_in_turn({workload_of(window(40, 8) | sink(2), shape), geometry, layout, 21}, turn++);
    }
  }
}

/// Plans of the plan space by number; past its end there is nothing to try.
class GpuPlans : public testing::TestWithParam<int> {};

TEST_P(GpuPlans, MatchTheOracle) {
  if (!test::is_thorough() && GetParam() % 5 != 1) GTEST_SKIP() << "others cover it here";
  const auto number = static_cast<size_t>(GetParam());
  uint64_t seed = 130 + number;
  for (const Mask& mask : {window(100, 20), blocks(64, "table")}) {
    for (const Kernels kernels : {Kernels::kOwn, Kernels::kPortable}) {
      const Workload workload = workload_of(mask, shape_of(2, 1, 64));
      const auto plans = plan_space(workload, kernels == Kernels::kOwn ? CudaFamily::kSm90 : CudaFamily::kSm80);
      if (number >= plans.size()) continue;
      expect_matches_oracle(
          {workload, packed_geometry({0, 1, 130, 300}, {0, 1, 130, 300}), LayoutKind::kPacked, seed++}, kernels,
          {.plan = plans[number]});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GpuPlans, testing::Range(1, 17));

/// Cases by number, so that they run side by side.
class GpuPadding : public testing::TestWithParam<int> {};

TEST_P(GpuPadding, IsTreatedAsThePatternSays) {
  if (!test::is_thorough() && GetParam() % 3 == 0) GTEST_SKIP() << "others cover it here";
  const std::vector<Padding> paddings = {PaddingExcluded{}, PaddingAdditive{-1.5}};
  const std::vector<Softmax> softmaxes = {SoftmaxStandard{}, SoftmaxPrunedAsZero{}};
  const std::vector<Mask> masks = {all(), window(9, 60), bigbird(64, 2, BigBirdTable{"random"}),
                                   blocks(32, "table", true)};
  const auto number = static_cast<size_t>(GetParam());
  Workload workload = workload_of(masks[number / 4], shape_of(2, 2, 64));
  workload.pattern.padding = paddings[number % 2];
  workload.pattern.softmax = softmaxes[number / 2 % 2];
  expect_forward_in_turn({workload, padded_geometry(192, {192, 70, 1, 0}), LayoutKind::kBatchHeadLength, 31},
                         number / 3);
}

INSTANTIATE_TEST_SUITE_P(All, GpuPadding, testing::Range(0, 16));

std::vector<Score> scores() {
  using namespace var;
  std::vector<Score> made(6);
  made[0].scale = -0.2;
  made[1].softcap = 1.5;
  made[2].alibi = "slopes";
  made[3].bias = "bias";
  made[4].expression = s() * constant(0.5) + load("per_head", {h()}, true);
  made[5] = {.scale = 0.25,
             .softcap = 3.0,
             .alibi = "slopes",
             .bias = "bias",
             .expression = select(s() > constant(0.0) && q() >= k(), s(), unary(UnaryKind::kTanh, s()))};
  return made;
}

class GpuScores : public testing::TestWithParam<int> {};

TEST_P(GpuScores, AreAppliedInEachSoftmaxMode) {
  if (!test::is_thorough() && GetParam() % 3 != 0) GTEST_SKIP() << "others cover it here";
  const std::vector<Softmax> softmaxes = {SoftmaxStandard{}, SoftmaxPrunedAsZero{}, SoftmaxSinkLogit{"sinks"}};
  const auto number = static_cast<size_t>(GetParam());
  Workload workload = workload_of(window(100, 10), shape_of(3, 1, 64));
  workload.pattern.score = scores()[number / 3];
  workload.pattern.softmax = softmaxes[(number + number / 3) % 3];
  expect_forward_in_turn({workload, packed_geometry({180, 17}, {180, 17}), LayoutKind::kPacked, 61 + number},
                         number / 3);
}

INSTANTIATE_TEST_SUITE_P(All, GpuScores, testing::Range(0, 18));

struct RandomCase {
  Workload workload;
  Geometry geometry;
};

RandomCase random_case(uint64_t seed) {
  std::mt19937_64 random(seed);
  const bool same_lengths = seed % 2 == 0;
  MaskChoices choices;
  choices.bigbird = same_lengths;
  choices.block_sizes = {8, 16, 24, 64, 128};
  Workload workload = workload_of(random_mask(random, choices), shape_of(2, 1, 32));
  if (seed % 5 == 0) workload.pattern.softmax = SoftmaxPrunedAsZero{};
  if (seed % 7 == 0) workload.pattern.padding = PaddingAdditive{-2.0};
  return {workload, random_geometry(random, 3, 300, same_lengths)};
}

/// Patterns may have more arrays than a launch has room for, which is refused in one line.
bool is_refused(const Workload& workload) {
  try {
    prepare_cuda(workload, {});
  } catch (const InvalidInput& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("the limits are 16, 16 and 8"));
    return true;
  }
  return false;
}

class GpuRandomPatterns : public testing::TestWithParam<int> {};

TEST_P(GpuRandomPatterns, MatchTheOracle) {
  if (!test::is_thorough() && GetParam() % 3 != 0) GTEST_SKIP() << "a third of them here";
  uint64_t seed = std::random_device{}() + static_cast<uint64_t>(GetParam());
  while (is_refused(random_case(seed).workload)) ++seed;
  const auto [workload, geometry] = random_case(seed);
  bool packed = true;
  for (const Sequence& sequence : geometry.sequences) {
    packed = packed && sequence.query_valid == sequence.query_length && sequence.key_valid == sequence.key_length;
  }
  expect_forward_in_turn({workload, geometry, packed ? LayoutKind::kPacked : LayoutKind::kBatchHeadLength, seed},
                         seed / 2);
}

INSTANTIATE_TEST_SUITE_P(All, GpuRandomPatterns, testing::Range(0, 24));

TEST(GpuForward, ReadsArraysOfScoresAndMasksOnlyWherePairsAre) {
  // Tiles hold queries and keys past the end of the sequence, and holes where boxes are missing: far outside these
  // arrays. The second sequence is short beside the first, whose arrays have its extent.
  for (const Kernels kernels : {Kernels::kOwn, Kernels::kPortable}) {
    for (const Mask& mask : {blocks(16, "table"), bits("mask"), blocks(16, "table") & bits("mask")}) {
      Workload workload = workload_of(mask, shape_of(2, 1, 64));
      workload.pattern.score.bias = "bias";
      expect_matches_oracle({workload, packed_geometry({83, 5}, {83, 5}), LayoutKind::kPacked, 78}, kernels);
    }
  }
}

TEST(GpuForward, WritesZerosWhereABatchHasNoKeysAtAll) {
  for (const Kernels kernels : {Kernels::kOwn, Kernels::kPortable}) {
    expect_matches_oracle(
        {workload_of(causal(), shape_of(2, 1, 64)), packed_geometry({70, 3}, {0, 0}), LayoutKind::kPacked, 77},
        kernels);
  }
}

TEST(GpuForward, WalksSortedDocumentsAsIntervals) {
  const std::vector<int64_t> lengths = {300, 0, 70};
  std::vector<int32_t> segments;
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i)
      segments.push_back(static_cast<int32_t>(i < 40 ? 0 : i < 41 ? 3 : i / 130 + 4));
  }
  const Bindings arrays = {
      {"segment", {.data = segments.data(), .type = ElementType::kInt32, .shape = {std::ssize(segments)}}}};
  uint64_t turn = 0;
  for (const Mask& mask :
       {documents("segment"), documents("segment") & causal(), documents("segment") & window(9, 90)}) {
    AttentionCase test{workload_of(mask, shape_of(2, 1, 64)), packed_geometry(lengths, lengths), LayoutKind::kPacked,
                       81};
    test.arrays = arrays;
    expect_forward_in_turn(test, turn++);
  }
}

TEST(GpuForward, JoinsThePartsOfSplitRows) {
  // One global query among windows: its row has all the keys.
  uint64_t turn = 0;
  for (const Softmax& softmax :
       std::vector<Softmax>{SoftmaxStandard{}, SoftmaxSinkLogit{"sinks"}, SoftmaxPrunedAsZero{}}) {
    Workload workload = workload_of(window(64, 64) | global_tokens(1, GlobalSide::kQueries), shape_of(1, 1, 64));
    workload.pattern.softmax = softmax;
    const CudaSchedule schedule{.heads_per_group = 1, .split_tiles = 3, .split_capacity = 400};
    test::expect_split_rows_match_the_oracle(
        {workload, packed_geometry({1500, 3}, {1500, 3}), LayoutKind::kPacked, 91 + turn}, schedule,
        turn % 2 == 0 ? Kernels::kOwn : Kernels::kPortable);
    ++turn;
  }
}

}  // namespace
}  // namespace harrier
