// Commands on a machine without a GPU: what needs none works, what needs one says what to do.
#include <gmock/gmock.h>

#include "cli_fixture.h"
#include "support/setting.h"

namespace harrier {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

constexpr const char* kNoLibrary = "/no/such/folder/libnothing.so";

class NoGpuTest : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    window_ = write_text("window.attn",
                         "attention w { heads 2 head_dim 64 dtype bf16 mask window(64, 0) lengths fixed(256) }\n");
  }

  static int64_t lines_of(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

  Setting libcuda_{"HARRIER_LIBCUDA", kNoLibrary};
  Setting nvrtc_{"HARRIER_NVRTC", kNoLibrary};
  std::string window_;
};

TEST_F(NoGpuTest, DoctorSaysWhatIsMissingAndHowToGetIt) {
  const CommandResult result = run_harrier({"doctor"});
  EXPECT_EQ(result.code, kSuccess);
  EXPECT_EQ(result.error, "");
  EXPECT_THAT(result.out, AllOf(StartsWith("cpu     "), HasSubstr("\ndriver  missing  no CUDA driver: "),
                                HasSubstr("install NVIDIA's driver, or use the cpu backend\n"),
                                HasSubstr("\nnvrtc   missing  no NVRTC: looked for "),
                                HasSubstr("`scripts/setup nvrtc` brings it")));
  EXPECT_EQ(lines_of(result.out), 3) << result.out;
}

TEST_F(NoGpuTest, DoctorTellsProgramsTheSame) {
  const CommandResult result = run_harrier({"doctor", "--json"});
  EXPECT_EQ(result.code, kSuccess);
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["command"], "doctor");
  std::vector<std::string> missing;
  for (const Json& finding : json["findings"]) {
    EXPECT_FALSE(finding["text"].get<std::string>().empty());
    if (!finding["found"]) missing.push_back(finding["name"]);
  }
  EXPECT_THAT(missing, testing::IsSupersetOf({"driver", "nvrtc"}));
}

TEST_F(NoGpuTest, EmitNeedsNoneAndGivesTheSameBytes) {
  const CommandResult first = run_harrier({"emit", window_, "--cuda"});
  EXPECT_EQ(first.code, kSuccess) << first.error;
  EXPECT_THAT(first.out, HasSubstr("__global__"));
  EXPECT_EQ(run_harrier({"emit", window_, "--cuda"}).out, first.out);
  EXPECT_EQ(run_harrier({"emit", window_, "--cuda", "--arch", "sm_90a"}).out, first.out);
  const CommandResult portable = run_harrier({"emit", window_, "--cuda", "--arch", "sm_80"});
  EXPECT_EQ(portable.code, kSuccess) << portable.error;
  EXPECT_NE(portable.out, first.out);
  EXPECT_EQ(run_harrier({"emit", window_, "--cuda", "--arch", "sm_89"}).out, portable.out);
  const Json json = Json::parse(run_harrier({"emit", window_, "--cuda", "--json"}).out);
  EXPECT_EQ(json["kind"], "cuda");
  EXPECT_EQ(json["text"], first.out);
}

TEST_F(NoGpuTest, EmitRefusesArchitecturesThatNoKernelIsFor) {
  for (const char* architecture : {"sm_75", "sm_", "hopper", "", "90"}) {
    const CommandResult result = run_harrier({"emit", window_, "--cuda", "--arch", architecture});
    EXPECT_EQ(result.code, kBadInput) << architecture;
    EXPECT_EQ(result.error, std::string("harrier: architecture ") + architecture +
                                " is unknown: use sm_80 or newer, sm_90a, or compute_80\n");
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(run_harrier({"emit", window_, "--arch", "sm_80"}).code, kBadInput) << "--arch is of --cuda";
}

TEST_F(NoGpuTest, EmitSaysWhatCudaKernelsDoNot) {
  const std::string file = write_text("f.attn", "attention f { heads 1 head_dim 64 mask causal lengths fixed(64) }");
  const CommandResult result = run_harrier({"emit", file, "--cuda"});
  EXPECT_EQ(result.code, kBadInput);
  EXPECT_THAT(result.error, HasSubstr("CUDA kernels take bf16 and fp16: "));
  EXPECT_EQ(lines_of(result.error), 1) << result.error;
}

TEST_F(NoGpuTest, CudaBackendIsOneLineWithTheRemedy) {
  const CommandResult result = run_harrier({"run", window_, "--backend", "cuda", "--out", path("o.npy")});
  EXPECT_EQ(result.code, kToolchainFailed);
  EXPECT_THAT(result.error,
              MatchesRegex("harrier: no CUDA driver: [^\n]*: install NVIDIA's driver, or use the cpu backend\n"));
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(files(), (std::vector<std::string>{"window.attn"}));
  const CommandResult json = run_harrier({"run", window_, "--backend", "cuda", "--json"});
  EXPECT_EQ(Json::parse(json.out)["exit_code"], 3);
}

TEST_F(NoGpuTest, AutoIsTheCpuWithoutAWord) {
  const CommandResult result = run_harrier({"run", window_, "--json", "--no-cache"});
  const CommandResult on_cpu = run_harrier({"run", window_, "--json", "--backend", "cpu"});
  ASSERT_EQ(result.code, on_cpu.code) << result.error;
  EXPECT_EQ(result.error, on_cpu.error);
  if (result.code == kToolchainFailed) GTEST_SKIP() << "no cpu backend in this build: " << result.error;
  EXPECT_EQ(result.code, kSuccess);
  EXPECT_EQ(Json::parse(result.out)["backend"], "cpu");
}

TEST_F(NoGpuTest, ShowPrintsThePlanOfEveryBackend) {
  const CommandResult result = run_harrier({"show", window_});
  EXPECT_EQ(result.code, kSuccess) << result.error;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("\nplan cpu     tile "), HasSubstr("\nplan sm_90a  "), HasSubstr("\nplan sm_80   ")));
  const Json plans = Json::parse(run_harrier({"show", window_, "--json"}).out)["plans"];
  for (const auto& [name, plan] : plans.items()) {
    EXPECT_THAT(result.out, HasSubstr(plan.get<std::string>() + "\n")) << name;
  }
  EXPECT_EQ(plans.size(), 3U);
  const std::string file = write_text("f.attn", "attention f { heads 1 head_dim 64 mask causal lengths fixed(64) }");
  EXPECT_THAT(run_harrier({"show", file}).out, HasSubstr("\nplan sm_90a  none: ")) << "and why there is none";
}

}  // namespace
}  // namespace harrier
