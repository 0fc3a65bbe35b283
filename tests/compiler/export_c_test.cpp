// The C format: what is written, that any C11 compiler takes it, and what is refused. Machine code is made up here;
// tests/gpu/export_test.cpp runs exports.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "compiler/export/c_source.h"
#include "compiler/export/exported_kernels.h"
#include "compiler/export/manifest.h"
#include "ir/error.h"
#include "support/temporary_folder.h"

namespace harrier {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

Workload workload_of(const char* name, Mask mask) {
  return {.name = name,
          .shape = {.heads = 4, .kv_heads = 2, .head_dim = 64, .value_dim = 64, .dtype = DataType::kBFloat16},
          .pattern = {.mask = std::move(mask)}};
}

cuda::CudaBinary image_of(size_t bytes) {
  cuda::CudaBinary binary;
  for (size_t i = 0; i < bytes; ++i) binary.image.push_back(static_cast<char>(i * 7 + bytes));
  return binary;
}

/// An export of these workloads for sm_90a and text, with made-up machine code of odd sizes.
KernelExport export_of(const std::vector<Workload>& workloads) {
  KernelExport kernels;
  kernels.images = {image_of(1001), image_of(8), image_of(13)};
  for (const Workload& workload : workloads) {
    std::optional<ExportedWorkload> exported;
    std::vector<ExportedTarget> targets;
    for (const char* architecture : {"sm_90a", "compute_80"}) {
      ExportedKernel kernel;
      kernel.compilation = prepare_cuda(workload, {.architecture = architecture}, {}, {}, false);
      kernel.kernel_image = 0;
      kernel.builder_image = 2;
      if (!exported) exported = describe_workload(kernel.compilation);
      targets.push_back({.architecture = architecture, .kernels = {kernel}, .tree = length_tree({}, {})});
    }
    exported->targets = targets;
    kernels.workloads.push_back(*exported);
  }
  return kernels;
}

std::vector<Workload> every_kind() {
  Workload capped = workload_of("scores", causal() & bits("bits"));
  capped.pattern.score = {.scale = 0.5, .softcap = 30, .alibi = "slopes", .bias = "bias"};
  capped.pattern.softmax = SoftmaxSinkLogit{"logits"};
  capped.pattern.padding = PaddingAdditive{-10000};
  Workload pruned = workload_of("pruned", block_lists(128, "offsets", "indices"));
  pruned.pattern.softmax = SoftmaxPrunedAsZero{};
  return {workload_of("window", window(100, 0) | sink(3)),
          workload_of("table", blocks(64, "blocks", true)),
          workload_of("bigbird", bigbird(64, 3, BigBirdTable{"random"})),
          workload_of("documents", documents("ids") & causal()),
          capped,
          pruned};
}

class ExportCTest : public testing::Test {
 protected:
  void write(const std::vector<ExportedFile>& files) const {
    for (const ExportedFile& file : files) std::ofstream(folder_ / file.name, std::ios::binary) << file.bytes;
  }

  /// A shell command in the folder; its output goes to the test's.
  int run(const std::string& command) const {
    return std::system(fmt::format("cd '{}' && {}", folder_.path(), command).c_str());
  }

  const test::TemporaryFolder folder_;
};

TEST_F(ExportCTest, EveryC11CompilerTakesItWithoutAWarning) {
  write(c_files(export_of(every_kind()), "harrier_kernels"));
  int compilers = 0;
  for (const char* compiler : {"cc", "gcc", "clang", "clang-19"}) {
    if (run(fmt::format("command -v {} > /dev/null", compiler)) != 0) continue;
    ++compilers;
    EXPECT_EQ(run(fmt::format("{} -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror -c harrier_kernels.c", compiler)),
              0)
        << compiler;
  }
  EXPECT_GT(compilers, 0);
}

TEST_F(ExportCTest, TheHeaderIsCAndCpp) {
  write(c_files(export_of(every_kind()), "mine"));
  std::ofstream(folder_ / "user.c")
      << "#include \"mine.h\"\nint use(void);\nint use(void) { return mine_workload_table; }\n";
  std::ofstream(folder_ / "user.cpp") << "#include \"mine.h\"\nint use() { return mine_workload_pruned; }\n";
  EXPECT_EQ(run("cc -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only user.c"), 0);
  EXPECT_EQ(run("c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only user.cpp"), 0);
}

TEST_F(ExportCTest, ANameOfItsOwnKeepsTwoExportsApart) {
  for (const char* name : {"first", "second"}) write(c_files(export_of({workload_of("window", causal())}), name));
  EXPECT_EQ(run("cc -std=c11 -c first.c && cc -std=c11 -c second.c && ld -r -o both.o first.o second.o"), 0);
  for (const ExportedFile& file : c_files(export_of({workload_of("window", causal())}), "first")) {
    EXPECT_THAT(file.bytes, testing::Not(HasSubstr("harrier_kernels"))) << file.name;
    EXPECT_THAT(file.bytes, testing::Not(HasSubstr("HARRIER_KERNELS"))) << file.name;
  }
}

TEST_F(ExportCTest, NamesNoLibraryButLibcuda) {
  write(c_files(export_of({workload_of("window", causal())}), "harrier_kernels"));
  ASSERT_EQ(run("cc -std=c11 -shared -fPIC -o kernels.so harrier_kernels.c -ldl"), 0);
  EXPECT_NE(run("ldd kernels.so | grep -E 'nvrtc|LLVM|sqlite|python|crypto|stdc'"), 0);
  EXPECT_NE(run("grep -aE 'libnvrtc|sqlite|python' kernels.so"), 0);
  EXPECT_EQ(run("grep -aq 'libcuda.so.1' kernels.so"), 0);
}

TEST_F(ExportCTest, TheSameExportIsTheSameBytes) {
  const auto text = [] {
    std::string all;
    const KernelExport kernels = export_of(every_kind());
    std::vector<ExportedFile> files = c_files(kernels, "harrier_kernels");
    for (const ExportedFile& file : files) all += file.name + "\n" + file.bytes;
    return all + manifest_text(kernels, {}, files);
  };
  EXPECT_EQ(text(), text());
}

TEST_F(ExportCTest, TheManifestNamesFilesPatternsAndMachineCode) {
  const KernelExport kernels = export_of({workload_of("window", window(100, 0))});
  const std::string text = manifest_text(kernels, {.format = ExportFormat::kC}, c_files(kernels, "harrier_kernels"));
  const nlohmann::json manifest = nlohmann::json::parse(text);
  EXPECT_EQ(manifest.dump() + "\n", text) << "keys are sorted, without blanks";
  EXPECT_EQ(manifest["files"], (nlohmann::json{"CMakeLists.txt", "harrier_kernels-config.cmake", "harrier_kernels.c",
                                               "harrier_kernels.h"}));
  const nlohmann::json& workload = manifest["workloads"][0];
  EXPECT_EQ(workload["name"], "window");
  EXPECT_THAT(workload["pattern"].get<std::string>(), HasSubstr("window(100, 0)"));
  EXPECT_EQ(workload["targets"][1]["architecture"], "compute_80");
  EXPECT_EQ(workload["targets"][0]["kernels"][0]["builder"]["bytes"], 13);
  EXPECT_EQ(workload["targets"][0]["kernels"][0]["kernel"]["sha256"].get<std::string>().size(), 64U);
}

TEST_F(ExportCTest, PatternsThatNeedTheHostAreRefusedInOneLine) {
  const auto refusal = [](const Mask& mask) {
    try {
      export_of({workload_of("w", mask)});
    } catch (const InvalidInput& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(refusal(global_tokens("tokens")), HasSubstr("w cannot be exported: @tokens is read in a way"));
  EXPECT_THAT(refusal(bigbird(64, 3, BigBirdSeed{1})), HasSubstr("bigbird(seed=...)"));
  EXPECT_THAT(refusal(blocks(64, "a") | blocks(64, "b")), HasSubstr("looks block tables up pair by pair"));
}

}  // namespace
}  // namespace harrier
