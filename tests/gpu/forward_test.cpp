// Every pattern on the GPU against the double-precision oracle, through the same calls that users make.
#include <gtest/gtest.h>

#include <random>

#include "support/random_pattern.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using test::expect_matches_oracle;
using test::Kernels;
using test::shape_of;
using test::workload_of;

const std::vector<int64_t> kAwkwardLengths = {0, 1, 63, 64, 65, 127, 200};

struct NamedMask {
  const char* name;
  Mask mask;
};

std::vector<NamedMask> masks() {
  return {{"all", all()},
          {"none", none()},
          {"causal", causal()},
          {"window", window(70, 33)},
          {"open_window", window(0, kUnbounded)},
          {"dilated", dilated(90, 90, 3)},
          {"sink", sink(5)},
          {"global_first", global_tokens(3)},
          {"global_tokens", global_tokens("tokens")},
          {"global_columns", global_tokens("tokens", GlobalSide::kKeys)},
          {"documents", documents("segment")},
          {"blocks16", blocks(16, "table")},
          {"blocks64_counted", blocks(64, "table", true)},
          {"blocks128", blocks(128, "table")},
          {"lists32_counted", block_lists(32, "offsets", "indices", true)},
          {"bigbird16_zero", bigbird(16, 2, BigBirdZero{})},
          {"bigbird64_table", bigbird(64, 2, BigBirdTable{"random"})},
          {"bits", bits("mask")},
          {"window_and_sink", (window(64, 0) & causal()) | sink(4)},
          {"causal_documents", documents("segment") & causal()},
          {"not_window", ~window(10, 10)},
          {"blocks_and_causal", (blocks(32, "table") & causal()) | global_tokens(2)},
          {"bigbird_and_causal", bigbird(64, 3, BigBirdTable{"random"}) & causal()},
          {"two_tables", blocks(32, "table") & blocks(64, "other")}};
}

struct MaskCase {
  std::string name;
  Mask mask;
  Kernels kernels;
  bool slow;  // left out where not every case is taken: the two families take turns
};

std::vector<MaskCase> mask_cases() {
  std::vector<MaskCase> cases;
  for (const NamedMask& named : masks()) {
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
void expect_in_turn(const AttentionCase& test, uint64_t turn) {
  const bool own = turn % 2 == 0;
  if (own || test::is_thorough()) expect_matches_oracle(test, Kernels::kOwn);
  if (!own || test::is_thorough()) expect_matches_oracle(test, Kernels::kPortable);
}

TEST(GpuForward, AlignsQueriesToTheEndOfLongerKeys) {
  uint64_t seed = 50;
  for (const Mask& mask : {causal(), window(20, 3), documents("segment")}) {
    expect_in_turn(
        {workload_of(mask, shape_of(1, 1, 64)),
         packed_geometry({1, 7, 65, 30, 5, 0, 200}, {100, 64, 130, 20, 0, 9, 333}), LayoutKind::kPacked, seed},
        seed);
    ++seed;
  }
}

TEST(GpuForward, WorksForEveryHeadDim) {
  const std::vector<int64_t> some = {16, 80, 128, 192, 256};
  std::vector<int64_t> dims;
  for (int64_t dim = 8; dim <= 256; dim += 8) dims.push_back(dim);
  for (const int64_t dim : test::is_thorough() ? dims : some) {
    expect_in_turn({workload_of(causal(), shape_of(1, 1, dim)), packed_geometry({150}, {150}), LayoutKind::kPacked,
                    static_cast<uint64_t>(dim)},
                   static_cast<uint64_t>(dim / 16));
  }
}

TEST(GpuForward, AllowsTheValueHeadDimToDiffer) {
  uint64_t seed = 70;
  for (const auto& [head_dim, value_dim] :
       std::vector<std::pair<int64_t, int64_t>>{{192, 128}, {64, 256}, {256, 64}, {40, 72}}) {
    expect_in_turn({workload_of(window(30, 5), shape_of(2, 1, head_dim, value_dim)), packed_geometry({190}, {190}),
                    LayoutKind::kPacked, seed},
                   seed);
    ++seed;
  }
}

TEST(GpuForward, SharesKeysAndValuesBetweenQueryHeads) {
  for (const auto& [heads, kv_heads] : std::vector<std::pair<int64_t, int64_t>>{{8, 8}, {8, 2}, {8, 1}, {6, 3}}) {
    expect_in_turn({workload_of(blocks(64, "table") | causal(), shape_of(heads, kv_heads, 64)),
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
      expect_in_turn({workload_of(window(40, 8) | sink(2), shape), geometry, layout, 21}, turn++);
    }
  }
}

TEST(GpuForward, TreatsPaddingAsThePatternSays) {
  uint64_t turn = 0;
  for (const Padding& padding : std::vector<Padding>{PaddingExcluded{}, PaddingAdditive{-1.5}}) {
    for (const Mask& mask : {all(), window(9, 60), bigbird(64, 2, BigBirdTable{"random"}), blocks(32, "table", true)}) {
      for (const Softmax& softmax : std::vector<Softmax>{SoftmaxStandard{}, SoftmaxPrunedAsZero{}}) {
        Workload workload = workload_of(mask, shape_of(2, 2, 64));
        workload.pattern.padding = padding;
        workload.pattern.softmax = softmax;
        ++turn;
        if (!test::is_thorough() && turn % 3 == 0) continue;
        expect_in_turn({workload, padded_geometry(192, {192, 70, 1, 0}), LayoutKind::kBatchHeadLength, 31}, turn);
      }
    }
  }
}

TEST(GpuForward, AppliesEachScoreStepAndSoftmaxMode) {
  using namespace var;
  std::vector<Score> scores(6);
  scores[0].scale = -0.2;
  scores[1].softcap = 1.5;
  scores[2].alibi = "slopes";
  scores[3].bias = "bias";
  scores[4].expression = s() * constant(0.5) + load("per_head", {h()}, true);
  scores[5] = {.scale = 0.25,
               .softcap = 3.0,
               .alibi = "slopes",
               .bias = "bias",
               .expression = select(s() > constant(0.0) && q() >= k(), s(), unary(UnaryKind::kTanh, s()))};
  uint64_t seed = 61;
  for (const Score& score : scores) {
    for (const Softmax& softmax :
         std::vector<Softmax>{SoftmaxStandard{}, SoftmaxPrunedAsZero{}, SoftmaxSinkLogit{"sinks"}}) {
      ++seed;
      if (!test::is_thorough() && seed % 3 != 0) continue;
      Workload workload = workload_of(window(100, 10), shape_of(3, 1, 64));
      workload.pattern.score = score;
      workload.pattern.softmax = softmax;
      expect_in_turn({workload, packed_geometry({180, 17}, {180, 17}), LayoutKind::kPacked, seed}, seed / 3);
    }
  }
}

TEST(GpuForward, MatchesTheOracleOnRandomPatterns) {
  const uint64_t first_seed = std::random_device{}();
  const uint64_t cases = test::is_thorough() ? 24 : 8;
  for (uint64_t seed = first_seed; seed < first_seed + cases; ++seed) {
    std::mt19937_64 random(seed);
    const bool same_lengths = seed % 2 == 0;
    MaskChoices choices;
    choices.bigbird = same_lengths;
    choices.block_sizes = {8, 16, 24, 64, 128};
    Workload workload = workload_of(random_mask(random, choices), shape_of(2, 1, 32));
    if (seed % 5 == 0) workload.pattern.softmax = SoftmaxPrunedAsZero{};
    if (seed % 7 == 0) workload.pattern.padding = PaddingAdditive{-2.0};
    const Geometry geometry = random_geometry(random, 3, 300, same_lengths);
    bool packed = true;
    for (const Sequence& sequence : geometry.sequences) {
      packed = packed && sequence.query_valid == sequence.query_length && sequence.key_valid == sequence.key_length;
    }
    expect_in_turn({workload, geometry, packed ? LayoutKind::kPacked : LayoutKind::kBatchHeadLength, seed}, seed);
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
    expect_in_turn(test, turn++);
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
