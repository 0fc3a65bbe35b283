// Every pattern on the GPU against the double-precision oracle, through the same calls that users make.
#include <gtest/gtest.h>

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
  bool slow;  // left out on the emulated GPU, which takes the two families in turn
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
  if (test::is_emulated() && GetParam().slow) GTEST_SKIP() << "the other family covers it here";
  expect_matches_oracle({workload_of(GetParam().mask, shape_of(2, 1, 64)),
                         packed_geometry(kAwkwardLengths, kAwkwardLengths), LayoutKind::kPacked, 7},
                        GetParam().kernels);
}

INSTANTIATE_TEST_SUITE_P(All, GpuMasks, testing::ValuesIn(mask_cases()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace harrier
