// The source of the list and order builder is what the goldens say, and compiles for every kernel family.
//
// HARRIER_UPDATE_GOLDENS=1 rewrites tests/data/cuda.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "codegen/cuda/emit_builder.h"
#include "cuda_patterns.h"
#include "nvrtc.h"

namespace harrier {
namespace {

struct Builder {
  std::string name;
  LoweredPattern lowered;
  int64_t block_rows = 0;

  CudaPlan plan() const { return default_sm90_plan(test::shape(64, 64), block_rows, 8192); }
  std::string text() const { return emit_cuda_builder(lowered, test::shape(64, 64), plan()); }
};

void PrintTo(const Builder& builder, std::ostream* out) { *out << builder.name; }

LoweredPattern causal_table() {
  LoweredPattern lowered = test::pattern(Expression{TileCount{0}} > constant(int64_t{0}) && test::causal(), {0});
  lowered.table_slots = 1;
  return lowered;
}

LoweredPattern two_tables() {
  LoweredPattern lowered =
      test::pattern(Expression{TileCount{0}} > constant(int64_t{0}) || Expression{TileCount{1}} > constant(int64_t{0}));
  lowered.table_slots = 2;
  return lowered;
}

/// Rows that are no union of a few intervals, in all keys.
LoweredPattern striped() {
  return test::pattern(equal((var::q() + var::k()) % constant(int64_t{7}), constant(int64_t{0})));
}

std::vector<Builder> builders() {
  return {{"build_causal", test::pattern(test::causal(), {0})},
          {"build_bigbird", test::counted_table(), 64},
          {"build_causal_table_b128", causal_table(), 128},
          {"build_causal_table_b16", causal_table(), 16},
          {"build_counted_table_b16", test::counted_table(), 16},
          {"build_two_tables", two_tables(), 64},
          {"build_striped", striped()}};
}

class CudaBuilder : public testing::TestWithParam<Builder> {};

TEST_P(CudaBuilder, IsTheGoldenText) {
  const std::filesystem::path path = std::filesystem::path(HARRIER_TEST_DATA) / "cuda" / (GetParam().name + ".cu");
  const std::string text = GetParam().text();
  EXPECT_EQ(text, GetParam().text()) << "the same arguments must give the same bytes";
  if (std::getenv("HARRIER_UPDATE_GOLDENS") != nullptr) std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(text, test::read_text(path)) << "run with HARRIER_UPDATE_GOLDENS=1 to accept the change";
}

TEST_P(CudaBuilder, CompilesWithoutSpills) {
  for (const char* architecture : {"sm_80", "sm_89", "sm_90a"}) {
    const auto result = test::compile_with_nvrtc(GetParam().text(), architecture);
    if (!result) GTEST_SKIP() << "no libnvrtc on this machine";
    ASSERT_TRUE(result->compiled) << architecture << "\n" << result->log;
    EXPECT_EQ(test::complaints(result->log), "") << architecture;
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, CudaBuilder, testing::ValuesIn(builders()),
                         [](const auto& instance) { return instance.param.name; });

TEST(CudaBuilderShapes, PackedRowsHaveRoomForEverySplitOfTheTokens) {
  const CudaPlan plan = {.consumers = 1};
  const auto rows_needed = [](const std::vector<int64_t>& lengths) {
    int64_t rows = 0;
    for (const int64_t length : lengths) rows += (length + 63) / 64;
    return rows;
  };
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{64}, {65}, {1, 1, 1, 1}, {0, 0, 63, 1}, {127, 129, 0, 64}, {1000}}) {
    int64_t tokens = 0;
    for (const int64_t length : lengths) tokens += length;
    const BuilderShape shape = {
        .batches = std::ssize(lengths), .query_tokens = tokens, .most_keys = tokens, .packed = true};
    EXPECT_GE(list_rows(shape, plan), rows_needed(lengths));
  }
}

TEST(CudaBuilderShapes, ListsHoldWholeTiles) {
  const CudaPlan plan = {.consumers = 1, .tile_k = 128, .box_rows = 32};
  const BuilderShape shape = {.batches = 3, .query_tokens = 100, .most_keys = 130};
  EXPECT_EQ(list_rows(shape, plan), 6);
  EXPECT_EQ(dense_row_entries(shape, plan), 8);
  EXPECT_EQ(sparse_entries(10, 2, 6, 64, plan), 2 * 10 * 2 + 6 * 3);
}

TEST(CudaBuilderNames, AHeadInAnExpressionTellsHeadsApart) {
  EXPECT_FALSE(names_head(test::pattern(std::nullopt)));
  EXPECT_FALSE(names_head(test::pattern(test::causal())));
  EXPECT_TRUE(names_head(test::pattern(var::k() - var::q() < var::h())));
  EXPECT_FALSE(names_head(test::pattern(load("bits", {var::b(), var::h(), var::q()}) > constant(int64_t{0}))));
  EXPECT_TRUE(names_head(test::pattern(load("kind", {var::h() + var::q()}) > constant(int64_t{0}))));
}

}  // namespace
}  // namespace harrier
