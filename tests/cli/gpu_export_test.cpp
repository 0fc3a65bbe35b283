// `harrier export`: what a user types, and what the example program makes of it.
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <memory>

#include "autotune/candidate_text.h"
#include "cli_fixture.h"
#include "compiler/cuda/cuda_pipeline.h"
#include "compiler/export/pack.h"
#include "compiler/harrier_cuda.h"
#include "ir/text.h"
#include "support/setting.h"

namespace harrier {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kWindow =
    "attention w { heads 2 head_dim 64 dtype bf16 mask causal & window(20, 0) lengths fixed(64) }";

class ExportCommandTest : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    window_ = write_text("w.attn", kWindow);
    cache_ = std::make_unique<Setting>("HARRIER_CACHE_DIR", path("cache").c_str());
  }

  /// A shell command's exit code; what it prints goes to a file of the test.
  int run(const std::string& command) const {
    return std::system(("( " + command + " ) > '" + path("log.txt") + "' 2>&1").c_str());
  }

  Setting libcuda_{"HARRIER_LIBCUDA", HARRIER_EMULATED_GPU};
  Setting nvrtc_{"HARRIER_NVRTC", HARRIER_EMULATED_GPU};
  std::unique_ptr<Setting> cache_;
  std::string window_;
};

TEST_F(ExportCommandTest, TheExampleBuildsRunsAndNeedsNoCompiler) {
  const std::string example = std::string(HARRIER_SOURCE_DIR) + "/examples/exported_window";
  const CommandResult result =
      run_harrier({"export", example + "/exported_window.attn", "--arch", "native", "-o", path("kernels")});
  ASSERT_EQ(result.code, kSuccess) << result.error;
  EXPECT_THAT(result.out, AllOf(HasSubstr("exported_window  sm_90a"), HasSubstr("5 files in ")));
  for (const char* way : {"OFF", "ON"}) {
    const std::string build = path(std::string("build_") + way);
    ASSERT_EQ(run("cmake -S '" + example + "' -B '" + build + "' -DKERNELS='" + path("kernels") +
                  "' -DAS_SUBDIRECTORY=" + way + " && cmake --build '" + build + "'"),
              0)
        << read_text("log.txt");
    // The kernels of the export are all there is: no NVRTC where one would be looked for, none in the process.
    const Setting without("HARRIER_NVRTC", "/no/such/libnvrtc.so");
    EXPECT_EQ(run("'" + build + "/exported_window'"), 0) << read_text("log.txt");
    EXPECT_THAT(read_text("log.txt"), AllOf(HasSubstr("sm_90a, "), HasSubstr(": right")));
    EXPECT_EQ(run("ldd '" + build + "/exported_window'"), 0);
    const std::string libraries = read_text("log.txt");
    for (const char* name : {"nvrtc", "LLVM", "sqlite", "python", "crypto", "stdc++", "harrier"}) {
      EXPECT_EQ(libraries.find(name), std::string::npos) << libraries;
    }
    const Setting no_driver("HARRIER_LIBCUDA", "/no/such/libcuda.so");
    EXPECT_EQ(run("'" + build + "/exported_window'"), 0);
    EXPECT_THAT(read_text("log.txt"), HasSubstr("nothing to run on: no CUDA driver: "));
  }
}

TEST_F(ExportCommandTest, TheSameInputGivesTheSameBytes) {
  for (const char* folder : {"a", "b"}) {
    const CommandResult result = run_harrier({"export", window_, "--arch", "sm_90a", "-o", path(folder), "--json"});
    ASSERT_EQ(result.code, kSuccess) << result.error;
    const Json json = Json::parse(result.out);
    EXPECT_EQ(json["kernels"][0]["architecture"], "sm_90a");
    EXPECT_EQ(json["files"].size(), 5U);
  }
  EXPECT_EQ(run("diff -r '" + path("a") + "' '" + path("b") + "'"), 0) << read_text("log.txt");
}

TEST_F(ExportCommandTest, MeasuredPlansBecomeKernelsForLengths) {
  const Workload workload = parse_workload(kWindow);
  const CudaPlan first = prepare_cuda(workload, {.architecture = "sm_90a"}).plan;
  CudaPlan second = first;
  second.ctas_per_sm = 1;
  const auto candidate = [](const CudaPlan& plan, std::vector<double> times) {
    return Json{
        {"architecture", "sm_90a"}, {"choice", autotune::to_text(autotune::Choice{.plan = plan})}, {"us", times}};
  };
  Json entry = {{"workload", "w"},
                {"buckets", {{128, 128, 2}, {8192, 8192, 2}}},
                {"candidates", {candidate(first, {1, 2}), candidate(second, {2, 1})}}};
  const auto exported = [&](const Json& json) {
    const std::string file = write_text("plans.json", Json::array({json}).dump());
    return run_harrier({"export", window_, "--arch", "sm_90a", "-o", path("a"), "--candidates", file, "--json"});
  };
  const CommandResult two = exported(entry);
  ASSERT_EQ(two.code, kSuccess) << two.error;
  EXPECT_EQ(Json::parse(two.out)["kernels"].size(), 2U);
  const Json manifest = Json::parse(read_text("a/manifest.json"));
  EXPECT_EQ(manifest["workloads"][0]["targets"][0]["tree"], Json::parse("[[0,1024,1,2],[-1,0,0,0],[-1,0,1,0]]"));

  entry["candidates"][0]["us"][1] = 1.04;
  const CommandResult one = exported(entry);
  ASSERT_EQ(one.code, kSuccess) << one.error;
  EXPECT_EQ(Json::parse(one.out)["kernels"].size(), 1U) << "4 % slower is near enough";

  entry["candidates"][0]["choice"] = "family";
  EXPECT_THAT(exported(entry).error, AllOf(HasSubstr("plans.json: "), HasSubstr("\"family\" is no plan")));
  entry.erase("buckets");
  EXPECT_THAT(exported(entry).error, AllOf(HasSubstr("plans.json: "), HasSubstr("buckets")));
}

TEST_F(ExportCommandTest, WhatWasTunedHereIsTakenAndSaid) {
  const CommandResult tuned = run_harrier({"tune", window_, "--budget", "300ms", "--json"});
  ASSERT_EQ(tuned.code, kSuccess) << tuned.error;
  const auto exported = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"export", window_, "--arch", "sm_90a", "-o", path("a")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = run_harrier(arguments);
    EXPECT_EQ(result.code, kSuccess) << result.error;
    return result.out;
  };
  const Json json = Json::parse(exported({"--json"}));
  ASSERT_EQ(json.at("tunings").size(), 1U);
  EXPECT_EQ(json["tunings"][0]["device"], "Emulated GPU sm_90");
  EXPECT_EQ(json["tunings"][0]["lengths"], 1);
  EXPECT_EQ(json["tunings"][0]["of_other_version"], false);
  EXPECT_EQ(json["kernels"].size(), 1U);
  EXPECT_THAT(exported({}), HasSubstr("tuned on Emulated GPU sm_90 for 1 batches of lengths\n"));
  EXPECT_TRUE(Json::parse(exported({"--no-tunings", "--json"})).at("tunings").empty());
}

TEST_F(ExportCommandTest, APackIsAFileThatTheLibraryLoads) {
  const CommandResult result = run_harrier(
      {"export", window_, "--arch", "native", "--format", "pack", "--name", "mine", "-o", path("a"), "--json"});
  ASSERT_EQ(result.code, kSuccess) << result.error;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["files"], Json::parse(R"(["mine.pack", "manifest.json"])"));
  const Gpu gpu = open_gpu({.ordinal = 0, .libcuda = {}, .libnvrtc = "/no/such/libnvrtc.so"});
  const PackedKernel packed = load_kernel(load_pack(path("a/mine.pack")), "w", gpu);
  EXPECT_EQ(json["kernels"][0]["plan"], print(packed.kernel.compilation().plan, Direction::kForward));
  const CommandResult again =
      run_harrier({"export", window_, "--arch", "native", "--format", "pack", "--name", "mine", "-o", path("a")});
  EXPECT_EQ(again.code, kSuccess) << "an earlier export is replaced: " << again.error;
  EXPECT_THAT(again.out, HasSubstr("2 files in "));
}

TEST_F(ExportCommandTest, FatBinariesComeFromTheToolkitsTool) {
  // It is told what to make of which files; what it makes of them is a test of its own, with real machine code.
  const std::string tool = write_text("tool", "#!/bin/sh\necho \"$@\" > out.fatbin\n");
  std::filesystem::permissions(tool, std::filesystem::perms::owner_all);
  const auto exported = [&](const std::string& program) {
    const Setting fatbinary("HARRIER_FATBINARY", program.c_str());
    return run_harrier({"export", window_, "--arch", "sm_80,sm_90a", "--format", "fatbin", "-o", path("a"), "--json"});
  };
  const CommandResult result = exported(tool);
  ASSERT_EQ(result.code, kSuccess) << result.error;
  const Json files = Json::parse(result.out)["files"];
  EXPECT_THAT(files.get<std::vector<std::string>>(),
              testing::IsSupersetOf({"harrier_kernels-w-0.fatbin", "harrier_kernels-w-0-builder.fatbin"}));
  EXPECT_THAT(read_text("a/harrier_kernels-w-0.fatbin"),
              AllOf(HasSubstr("kind=elf,sm=80,file=sm_80.cubin"), HasSubstr("kind=elf,sm=90a,file=sm_90a.cubin")));
  const CommandResult missing = exported("/no/such/fatbinary");
  EXPECT_EQ(missing.code, kToolchainFailed);
  EXPECT_THAT(missing.error, HasSubstr("does not start: install the CUDA toolkit, set HARRIER_FATBINARY"));
}

TEST_F(ExportCommandTest, WhatIsWrongIsOneLine) {
  const auto failing = [&](std::vector<std::string> arguments, int code) {
    const CommandResult result = run_harrier(arguments);
    EXPECT_EQ(result.code, code) << result.error;
    EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
    return result.error;
  };
  const std::string out = path("out");
  EXPECT_THAT(failing({"export", window_}, kBadInput), HasSubstr("--output is required"));
  EXPECT_THAT(failing({"export", window_, "-o", out, "--arch", "sm_75"}, kBadInput),
              HasSubstr("architecture sm_75 is unknown: use sm_80 or newer"));
  EXPECT_THAT(failing({"export", window_, "-o", out, "--format", "elf"}, kBadInput), HasSubstr("--format elf"));
  EXPECT_THAT(failing({"export", window_, window_, "-o", out}, kBadInput), HasSubstr("two workloads are called w"));
  EXPECT_THAT(failing({"export", window_, "-o", out, "--name", "No-Name"}, kBadInput), HasSubstr("'No-Name'"));
  EXPECT_THAT(failing({"export", window_, "-o", out, "--candidates", path("none.json")}, kBadInput),
              HasSubstr("none.json: cannot be read"));
  const Setting no_driver("HARRIER_LIBCUDA", "/no/such/libcuda.so");
  EXPECT_THAT(failing({"export", window_, "-o", out, "--arch", "native"}, kToolchainFailed),
              HasSubstr("no CUDA driver"));
  EXPECT_FALSE(std::filesystem::exists(out)) << "a failed export leaves nothing";
}

}  // namespace
}  // namespace harrier
