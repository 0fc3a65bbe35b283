// Compiling: one program or many, stopped, refused.
#include "device_failure.h"
#include "emulated_device.h"
#include "support/setting.h"

namespace harrier::cuda {
namespace {

using test::compile_emulated;
using test::message_of;
using testing::AllOf;
using testing::HasSubstr;

std::string kernel(int number) {
  return "extern \"C\" __global__ void f(int* data) { data[threadIdx.x] = " + std::to_string(number) + "; }";
}

CudaSource source_of(std::string_view text, std::span<const IncludedFile> includes = {}) {
  return {.text = text, .includes = includes, .architecture = "sm_90a", .use_cache = true, .stop = {}};
}

TEST(Compile, ReadsIncludedFilesByName) {
  const std::vector<IncludedFile> includes = {{"some/where.cuh", "constexpr int kValue = 3;"}};
  const CudaBinary binary =
      compile(load_nvrtc(HARRIER_EMULATED_GPU),
              source_of("#include \"some/where.cuh\"\nextern \"C\" __global__ void f(int* data) { *data = kValue; }",
                        includes));
  EXPECT_FALSE(binary.image.empty());
  EXPECT_GT(binary.compile_us, 0);
}

TEST(Compile, WhatIsRefusedHasNvrtcsOwnWords) {
  try {
    compile_emulated("extern \"C\" __global__ void f(int* data) { *data = no_such_name; }");
    FAIL() << "nothing was thrown";
  } catch (const ToolchainError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("NVRTC 13.0 refused the kernel for sm_90a: NVRTC_ERROR_COMPILATION"),
                                    HasSubstr("this is our bug, please report the log")));
    EXPECT_THAT(error.log(), HasSubstr("no_such_name"));
  }
}

TEST(Compile, ArchitectureThatNvrtcDoesNotKnowIsNotOurBug) {
  EXPECT_THAT(message_of<ToolchainError>([] { compile_emulated(kernel(1), "sm_999"); }),
              HasSubstr("it does not know sm_999: use a newer one, `scripts/setup nvrtc` brings it"));
}

TEST(Compile, BuiltinsThatAreMissingAreNamed) {
  const Setting results("HARRIER_EMULATED_FAIL", "nvrtcCompileProgram=7");
  EXPECT_THAT(message_of<ToolchainError>([] { compile_emulated(kernel(1)); }),
              HasSubstr("libnvrtc-builtins must lie beside " HARRIER_EMULATED_GPU));
}

TEST(Compile, StopsWhenAsked) {
  std::stop_source stop;
  CudaSource source = source_of("extern \"C\" __global__ void f() {}");
  source.stop = stop.get_token();
  EXPECT_NO_THROW(compile(load_nvrtc(HARRIER_EMULATED_GPU), source)) << "a stop that nobody asks for";
  stop.request_stop();
  EXPECT_EQ(message_of<ToolchainError>([&] { compile(load_nvrtc(HARRIER_EMULATED_GPU), source); }),
            "NVRTC: the compile was stopped as asked");
}

TEST(CompileAll, KeepsTheOrderAndEachFailureIsItsOwn) {
  const Nvrtc nvrtc = load_nvrtc(HARRIER_EMULATED_GPU);
  std::vector<std::string> texts;
  for (int i = 0; i < 6; ++i) texts.push_back(i % 3 == 1 ? "this is no program" : kernel(i));
  std::vector<CudaSource> sources;
  for (const std::string& text : texts) sources.push_back(source_of(text));
  const std::vector<CompileResult> results = compile_all(nvrtc, sources);
  ASSERT_EQ(results.size(), texts.size());
  for (size_t i = 0; i < results.size(); ++i) {
    SCOPED_TRACE(i);
    if (i % 3 == 1) {
      EXPECT_THAT(results[i].error, HasSubstr("NVRTC_ERROR_COMPILATION"));
      EXPECT_TRUE(results[i].binary.image.empty());
    } else {
      EXPECT_EQ(results[i].error, "");
      EXPECT_EQ(results[i].binary.image, compile(nvrtc, sources[i]).image);
    }
  }
  EXPECT_TRUE(compile_all(nvrtc, {}).empty());
}

TEST(CompileAll, StopsEveryOne) {
  std::stop_source stop;
  stop.request_stop();
  CudaSource source = source_of("extern \"C\" __global__ void f() {}");
  source.stop = stop.get_token();
  const std::vector<CudaSource> sources(3, source);
  for (const CompileResult& result : compile_all(load_nvrtc(HARRIER_EMULATED_GPU), sources)) {
    EXPECT_EQ(result.error, "NVRTC: the compile was stopped as asked");
  }
}

}  // namespace
}  // namespace harrier::cuda
