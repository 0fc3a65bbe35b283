// Commands on a machine with a GPU: the emulated one, found the way a real one is.
#include <gmock/gmock.h>

#include <optional>
#include <random>

#include "cli/convert.h"
#include "cli_fixture.h"
#include "ir/text.h"
#include "support/attention_case.h"
#include "support/oracle.h"
#include "support/setting.h"
#include "support/tensors.h"

namespace harrier {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

constexpr const char* kPacked =
    "attention p { heads 2 kv_heads 1 head_dim 64 dtype fp16 mask causal & window(20, 0) lengths fixed(64) }";

class GpuCommandsTest : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    cache_.emplace("HARRIER_CACHE_DIR", path("cache").c_str());
    packed_ = write_text("packed.attn", kPacked);
  }

  /// Arrays of two packed sequences, 70 and 33 tokens long, and what the oracle makes of them.
  std::vector<std::string> write_arrays(const char* tolerance = "0.0025") {
    std::mt19937_64 random(3);
    const auto draw = [&](const char* name, std::vector<int64_t> shape) {
      std::vector<double> values = random_values(random, element_count(shape), DataType::kFloat16);
      write_array(name, make_array<float>(ElementType::kFloat32, std::move(shape), {values.begin(), values.end()}));
      return values;
    };
    const std::vector<double> q = draw("q.npy", {103, 2, 64});
    const std::vector<double> k = draw("k.npy", {103, 1, 64});
    const std::vector<double> v = draw("v.npy", {103, 1, 64});
    const Workload workload = parse_workload(kPacked);
    const oracle::Forward expected =
        oracle::forward(workload.pattern, workload.shape, packed_geometry({70, 33}, {70, 33}), {}, q, k, v);
    write_array("expected.npy", make_array<double>(ElementType::kFloat64, {103, 2, 64}, expected.out));
    write_array("cu.npy", make_array<int32_t>(ElementType::kInt32, {3}, {0, 70, 103}));
    return {"run",         packed_,       "--q",          path("q.npy"),  "--k",      path("k.npy"),
            "--v",         path("v.npy"), "--cu-seqlens", path("cu.npy"), "--expect", path("expected.npy"),
            "--tolerance", tolerance};
  }

  static std::vector<std::string> with(std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  Setting libcuda_{"HARRIER_LIBCUDA", HARRIER_EMULATED_GPU};
  Setting nvrtc_{"HARRIER_NVRTC", HARRIER_EMULATED_GPU};
  std::optional<Setting> cache_;
  std::string packed_;
};

TEST_F(GpuCommandsTest, DoctorFindsEverything) {
  const Setting devices("HARRIER_EMULATED_DEVICES", "2");
  const CommandResult result = run_harrier({"doctor"});
  EXPECT_EQ(result.code, kSuccess);
  EXPECT_THAT(result.out,
              AllOf(HasSubstr(std::string("\ndriver  found    ") + HARRIER_EMULATED_GPU + " for CUDA 13.0\n"),
                    HasSubstr("\ngpus    found    2\n"),
                    HasSubstr("\ngpu     found    GPU 0: Emulated GPU sm_90, 4 multiprocessors, 8 GiB, kernels for "
                              "sm_90a, key sm90-4sm-"),
                    HasSubstr("\ngpu     found    GPU 1: "),
                    HasSubstr(std::string("\nnvrtc   found    ") + HARRIER_EMULATED_GPU + " 13.0\n")));
}

TEST_F(GpuCommandsTest, DoctorNamesWhatIsTooOld) {
  {
    const Setting capability("HARRIER_EMULATED_CAPABILITY", "7.5");
    EXPECT_THAT(run_harrier({"doctor"}).out,
                HasSubstr("\ngpu     missing  Emulated GPU sm_75 has compute capability 7.5, the oldest supported is "
                          "8.0: use the cpu backend\n"));
  }
  const Setting driver("HARRIER_EMULATED_DRIVER", "11040");
  EXPECT_THAT(run_harrier({"doctor"}).out,
              HasSubstr("\ndriver  missing  the driver is for CUDA 11.4, needed is 12.0: update it\n"));
}

TEST_F(GpuCommandsTest, RunGivesWhatTheOracleGives) {
  const std::vector<std::string> arguments = with(write_arrays(), {"--backend", "cuda", "--json", "--repeat", "2"});
  const CommandResult result = run_harrier(arguments);
  ASSERT_EQ(result.code, kSuccess) << result.error << result.out;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["backend"], "cuda (Emulated GPU sm_90, sm_90a)");
  EXPECT_TRUE(json["expect"]["ok"]);
  EXPECT_EQ(json["repeats_us"].size(), 2U);
  std::vector<std::string> steps;
  for (const auto& step : json["compile_steps_us"].items()) steps.push_back(step.key());
  EXPECT_THAT(steps, testing::IsSupersetOf({"choose_cuda_plan", "emit_cuda", "nvrtc and load"}));
  EXPECT_EQ(run_harrier(with(write_arrays("1e-9"), {"--backend", "cuda"})).code, kOutsideTolerance);
}

TEST_F(GpuCommandsTest, RunGivesTheGradientsThatTheOracleGives) {
  write_arrays();
  std::mt19937_64 random(4);
  const std::vector<double> d_out = random_values(random, 103 * 2 * 64, DataType::kFloat16);
  write_array("do.npy", make_array<float>(ElementType::kFloat32, {103, 2, 64}, {d_out.begin(), d_out.end()}));
  const auto values = [&](const char* name) {
    const NpyArray array = read_npy(path(name));
    const auto* floats = reinterpret_cast<const float*>(array.bytes.data());
    return std::vector<double>(floats, floats + element_count(array.shape));
  };
  const Workload workload = parse_workload(kPacked);
  const oracle::Backward expected =
      oracle::backward(workload.pattern, workload.shape, packed_geometry({70, 33}, {70, 33}), {}, values("q.npy"),
                       values("k.npy"), values("v.npy"), d_out);
  write_array("ref_d_q.npy", make_array<double>(ElementType::kFloat64, {103, 2, 64}, expected.d_q));
  write_array("ref_d_k.npy", make_array<double>(ElementType::kFloat64, {103, 1, 64}, expected.d_k));
  write_array("ref_d_v.npy", make_array<double>(ElementType::kFloat64, {103, 1, 64}, expected.d_v));
  std::vector<std::string> arguments = {"run",          packed_,        "--backward",   "--backend",
                                        "cuda",         "--q",          path("q.npy"),  "--k",
                                        path("k.npy"),  "--v",          path("v.npy"),  "--d-out",
                                        path("do.npy"), "--cu-seqlens", path("cu.npy"), "--expect-gradients",
                                        path("ref_"),   "--tolerance",  "0.01",         "--json"};
  for (const bool deterministic : {false, true}) {
    if (deterministic) arguments.push_back("--deterministic");
    const CommandResult result = run_harrier(arguments);
    ASSERT_EQ(result.code, kSuccess) << result.error << result.out;
    const Json json = Json::parse(result.out);
    EXPECT_EQ(json["backend"], "cuda (Emulated GPU sm_90, sm_90a)");
    EXPECT_EQ(json["plan"].get<std::string>().ends_with(", deterministic"), deterministic) << json["plan"];
    for (const char* name : {"d_q", "d_k", "d_v"}) EXPECT_TRUE(json["expect_gradients"][name]["ok"]) << name;
  }
}

TEST_F(GpuCommandsTest, AutoTakesTheGpuAndNoCacheChangesNothing) {
  const std::vector<std::string> arguments = write_arrays();
  const CommandResult found = run_harrier(with(arguments, {"--json", "--out", path("a.npy")}));
  ASSERT_EQ(found.code, kSuccess) << found.error;
  EXPECT_THAT(Json::parse(found.out)["backend"].get<std::string>(), StartsWith("cuda"));
  const CommandResult anew = run_harrier(with(arguments, {"--no-cache", "--out", path("b.npy")}));
  ASSERT_EQ(anew.code, kSuccess) << anew.error;
  EXPECT_EQ(read_text("a.npy"), read_text("b.npy"));
}

TEST_F(GpuCommandsTest, AutoSaysWhyAGpuThatIsThereIsNotTaken) {
  const std::string file = write_text("f.attn", "attention f { heads 1 head_dim 16 mask causal lengths fixed(8) }");
  const CommandResult result = run_harrier({"run", file});
  if (result.code == kToolchainFailed) GTEST_SKIP() << "no cpu backend in this build: " << result.error;
  EXPECT_EQ(result.code, kSuccess) << result.error;
  EXPECT_THAT(result.error, HasSubstr("harrier: note: the cpu runs this, for the GPU cannot: "));
}

TEST_F(GpuCommandsTest, WhatFailsIsOneLineAndCodeThree) {
  const auto failing = [&](const char* variable, const char* value) {
    const Setting setting(variable, value);
    const CommandResult result = run_harrier({"run", packed_, "--backend", "cuda"});
    EXPECT_EQ(result.code, kToolchainFailed) << value;
    EXPECT_EQ(result.out, "") << value;
    return result.error;
  };
  EXPECT_EQ(failing("HARRIER_EMULATED_CAPABILITY", "7.5"),
            "harrier: Emulated GPU sm_75 has compute capability 7.5, the oldest supported is 8.0: use the cpu "
            "backend\n");
  EXPECT_THAT(failing("HARRIER_EMULATED_DEVICES", "0"),
              MatchesRegex("harrier: [^\n]*CUDA_ERROR_NO_DEVICE[^\n]*: check CUDA_VISIBLE_DEVICES, or use the cpu "
                           "backend\n"));
  EXPECT_THAT(failing("HARRIER_NVRTC", "/no/such/folder/libnvrtc.so"),
              MatchesRegex("harrier: no NVRTC: looked for [^\n]*: `scripts/setup nvrtc` brings it[^\n]*\n"));
  EXPECT_THAT(failing("HARRIER_EMULATED_FAIL", "cuMemAlloc_v2=2"),
              MatchesRegex("harrier: [0-9]+ bytes of device memory [^\n]*CUDA_ERROR_OUT_OF_MEMORY[^\n]*\n"));
  EXPECT_THAT(failing("HARRIER_EMULATED_FAIL", "cuLaunchKernel=719"), MatchesRegex("harrier: launching [^\n]*\n"));
  EXPECT_THAT(failing("HARRIER_EMULATED_FAIL", "cuModuleLoadDataEx=200"),
              MatchesRegex("harrier: loading [^\n]*compile it again for this GPU\n"));
}

}  // namespace
}  // namespace harrier
