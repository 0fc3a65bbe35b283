// The real NVRTC, where this machine has one: machine code without a GPU.
#include "runtime/cuda/nvrtc.h"

#include <optional>

#include "device_failure.h"

namespace harrier::cuda {
namespace {

constexpr const char* kText = R"(
#include "numbers.cuh"
extern "C" __global__ void __launch_bounds__(64) fill(int* data) { data[threadIdx.x] = kNumber; }
)";
const std::vector<IncludedFile> kIncludes = {{"numbers.cuh", "constexpr int kNumber = 7;"}};

class RealNvrtcTest : public testing::Test {
 protected:
  void SetUp() override {
    try {
      nvrtc_ = load_nvrtc();
    } catch (const ToolchainError& error) {
      GTEST_SKIP() << error.what();
    }
  }

  CudaBinary compiled(const std::string& architecture, bool use_cache = true) const {
    return compile(
        *nvrtc_,
        {.text = kText, .includes = kIncludes, .architecture = architecture, .use_cache = use_cache, .stop = {}});
  }

  std::optional<Nvrtc> nvrtc_;
};

TEST_F(RealNvrtcTest, GivesMachineCodeAndWhatItUses) {
  for (const char* architecture : {"sm_80", "sm_90a"}) {
    SCOPED_TRACE(architecture);
    const CudaBinary binary = compiled(architecture);
    EXPECT_TRUE(std::string_view(binary.image.data(), binary.image.size()).starts_with("\177ELF"));
    ASSERT_EQ(binary.entries.size(), 1U) << binary.log;
    EXPECT_EQ(binary.entries[0].name, "fill");
    EXPECT_GT(binary.entries[0].registers, 0);
    EXPECT_EQ(binary.entries[0].spill_bytes, 0);
    EXPECT_TRUE(binary.notes.empty());
  }
}

TEST_F(RealNvrtcTest, TheSameSourceGivesTheSameBytes) {
  EXPECT_EQ(compiled("sm_90a").image, compiled("sm_90a", false).image);
}

TEST_F(RealNvrtcTest, GivesPtxThatEndsInAZero) {
  const CudaBinary binary = compiled("compute_80");
  ASSERT_FALSE(binary.image.empty());
  EXPECT_EQ(binary.image.back(), '\0');
  EXPECT_THAT(std::string(binary.image.data()), testing::HasSubstr(".entry fill"));
}

TEST_F(RealNvrtcTest, DoesNotKnowWhatDoesNotExist) {
  EXPECT_THAT(test::message_of<ToolchainError>([&] { compiled("sm_999"); }),
              testing::HasSubstr("it does not know sm_999: use a newer one"));
}

}  // namespace
}  // namespace harrier::cuda
