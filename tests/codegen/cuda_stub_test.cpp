// Stubs are what the goldens say, byte for byte, and compile without spills or serialised products: those of sm_90a for
// it alone, those of sm_80 for all that they may run on.
//
// HARRIER_UPDATE_GOLDENS=1 rewrites tests/data/cuda.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "codegen/cuda/emit_stub.h"
#include "cuda_patterns.h"
#include "ir/error.h"
#include "nvrtc.h"

namespace harrier {
namespace {

struct Stub {
  std::string name;
  LoweredPattern lowered;
  Shape shape;
  int64_t block_rows = 0;
  int64_t keys_per_query = 8192;
  CudaFamily family = CudaFamily::kSm90;

  CudaPlan plan() const {
    return family == CudaFamily::kSm90 ? default_sm90_plan(shape, block_rows, keys_per_query)
                                       : default_sm80_plan(shape, block_rows, keys_per_query);
  }
  std::string text() const { return emit_cuda_stub(lowered, shape, plan()); }
  std::vector<std::string> architectures() const {
    return family == CudaFamily::kSm90 ? std::vector<std::string>{"sm_90a"}
                                       : std::vector<std::string>{"sm_80", "sm_89", "sm_90", "compute_80"};
  }
};

void PrintTo(const Stub& stub, std::ostream* out) { *out << stub.name; }

std::vector<Stub> stubs() {
  using test::pattern, test::shape;
  std::vector<Stub> all = {
      {"dense_d128", pattern(std::nullopt), shape(128, 128)},
      {"causal_d64", pattern(test::causal(), {0}), shape(64, 64)},
      {"window_d96_fp16", pattern(test::window(), {1023, 0}), shape(96, 96, DataType::kFloat16)},
      {"longformer_d64", pattern(test::longformer(), {256, 256, 64}), shape(64, 64), 0, 577},
      {"causal_d192_128", pattern(test::causal(), {0}), shape(192, 128)},
      {"causal_d256", pattern(test::causal(), {0}), shape(256, 256)},
      {"bigbird_d64", test::counted_table(), shape(64, 64), 64},
      {"blocks_d128",
       [] {
         LoweredPattern lowered = test::counted_table();
         lowered.counted = false;
         return lowered;
       }(),
       shape(128, 128), 128},
      {"everything_d80", test::everything_at_once(), shape(80, 80), 16},
      {"counted_causal_d64",
       [] {
         LoweredPattern lowered = test::counted_table();
         lowered.visible = select(test::causal(), Expression{TileCount{0}}, constant(int64_t{0}));
         lowered.int_values = {0};
         return lowered;
       }(),
       shape(64, 64), 64},
      {"bigbird_padded_d64",
       [] {
         LoweredPattern lowered = test::counted_table();
         lowered.additive_padding = true;
         return lowered;
       }(),
       shape(64, 64), 64},
      {"pruned_as_zero_d64",
       [] {
         LoweredPattern lowered = pattern(test::window(), {255, 0});
         lowered.softmax = SoftmaxKind::kPrunedAsZero;
         return lowered;
       }(),
       shape(64, 64), 0, 256},
  };
  for (size_t i = 0, count = all.size(); i < count; ++i) {
    Stub stub = all[i];
    stub.name += "_sm80";
    stub.family = CudaFamily::kSm80;
    all.push_back(stub);
  }
  return all;
}

class CudaStub : public testing::TestWithParam<Stub> {};

TEST_P(CudaStub, IsTheGoldenText) {
  const std::filesystem::path path = std::filesystem::path(HARRIER_TEST_DATA) / "cuda" / (GetParam().name + ".cu");
  const std::string text = GetParam().text();
  EXPECT_EQ(text, GetParam().text()) << "the same arguments must give the same bytes";
  if (std::getenv("HARRIER_UPDATE_GOLDENS") != nullptr) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  EXPECT_EQ(text, test::read_text(path)) << "run with HARRIER_UPDATE_GOLDENS=1 to accept the change";
}

TEST_P(CudaStub, CompilesWithoutSpillsOrSerialisedProducts) {
  for (const std::string& architecture : GetParam().architectures()) {
    const auto result = test::compile_with_nvrtc(GetParam().text(), architecture);
    if (!result) GTEST_SKIP() << "no libnvrtc on this machine";
    ASSERT_TRUE(result->compiled) << architecture << "\n" << result->log;
    EXPECT_EQ(test::complaints(result->log), "") << architecture;
  }
}

INSTANTIATE_TEST_SUITE_P(Plans, CudaStub, testing::ValuesIn(stubs()),
                         [](const auto& instance) { return instance.param.name; });

TEST(CudaKernels, EachFileCompilesAlone) {
  for (const auto& entry : std::filesystem::directory_iterator(HARRIER_SOURCE_DIR "/codegen/cuda/kernels")) {
    const std::string name = entry.path().filename().string();
    for (const char* architecture : {"sm_80", "sm_90a"}) {
      const auto result =
          test::compile_with_nvrtc(fmt::format("#include \"codegen/cuda/kernels/{}\"\n", name), architecture);
      if (!result) GTEST_SKIP() << "no libnvrtc on this machine";
      EXPECT_TRUE(result->compiled) << name << " for " << architecture << "\n" << result->log;
    }
  }
}

TEST(CudaStubErrors, NameWhatIsNotDoneYet) {
  const auto message = [](const LoweredPattern& lowered, const Shape& shape, const CudaPlan& plan) {
    try {
      emit_cuda_stub(lowered, shape, plan);
    } catch (const InvalidInput& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const LoweredPattern numbers = test::pattern(std::nullopt, std::vector<int64_t>(17));
  EXPECT_THAT(message(numbers, test::shape(64, 64), {}), testing::HasSubstr("17 integers"));
  const LoweredPattern dense = test::pattern(std::nullopt);
  EXPECT_THAT(message(dense, test::shape(64, 64, DataType::kFloat32), {}), testing::HasSubstr("bf16 and fp16"));
  EXPECT_THAT(message(dense, test::shape(512, 64), {}), testing::HasSubstr("512"));
  EXPECT_THAT(message(dense, test::shape(256, 256), {}), testing::HasSubstr("shared memory"));
  EXPECT_THAT(message(dense, test::shape(64, 64), {.consumer_registers = 256}), testing::HasSubstr("registers"));
}

}  // namespace
}  // namespace harrier
