// Exports by the real NVRTC, where there is one: machine code for the architectures that were asked for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "compiler/export/exported_kernels.h"
#include "compiler/export/fatbin.h"
#include "ir/error.h"
#include "runtime/cuda/nvrtc.h"

namespace harrier {
namespace {

using testing::HasSubstr;

/// Null where this machine has none.
const KernelExport* exported() {
  static const std::optional<KernelExport> made = []() -> std::optional<KernelExport> {
    try {
      const cuda::Nvrtc nvrtc = cuda::load_nvrtc();
      const Workload workload = {
          .name = "window",
          .shape = {.heads = 2, .kv_heads = 2, .head_dim = 64, .value_dim = 64, .dtype = DataType::kBFloat16},
          .pattern = {.mask = window(100, 0)}};
      return compile_export({{.workload = workload}}, nvrtc, {.architectures = {"compute_80", "sm_80", "sm_90a"}});
    } catch (const ToolchainError&) {
      return std::nullopt;
    }
  }();
  return made ? &*made : nullptr;
}

/// What cuobjdump would say of a cubin: sm_ and the number in the ELF header's flags.
int architecture_of(const std::vector<char>& image) {
  uint32_t flags = 0;
  std::memcpy(&flags, image.data() + 48, sizeof flags);
  // From ABI 8 on, which CUDA 13 writes, the number stands above the ABI's byte.
  constexpr uint32_t kByte = 0xff;
  const uint32_t above = flags >> 8 & kByte;
  return static_cast<int>(above >= 80 ? above : flags & kByte);
}

TEST(ExportNvrtc, MachineCodeIsForTheArchitecturesAskedFor) {
  const KernelExport* kernels = exported();
  if (kernels == nullptr) GTEST_SKIP() << "no NVRTC here: scripts/setup nvrtc brings one";
  ASSERT_EQ(kernels->workloads.size(), 1U);
  const std::vector<ExportedTarget>& targets = kernels->workloads.front().targets;
  ASSERT_EQ(targets.size(), 3U);
  for (size_t t = 0; t < 2; ++t) {
    const ExportedKernel& kernel = targets[t].kernels.front();
    EXPECT_EQ(targets[t].architecture, t == 0 ? "sm_90a" : "sm_80");
    for (const size_t place : {kernel.kernel_image, kernel.builder_image}) {
      const std::vector<char>& image = kernels->images[place].image;
      ASSERT_GT(image.size(), 64U);
      EXPECT_EQ(std::string(image.data(), 5),
                "\x7f"
                "ELF\x02")
          << "64-bit ELF";
      uint16_t machine = 0;
      std::memcpy(&machine, image.data() + 18, sizeof machine);
      EXPECT_EQ(machine, 190) << "EM_CUDA";
      EXPECT_EQ(architecture_of(image), t == 0 ? 90 : 80);
    }
  }
  EXPECT_EQ(targets[2].architecture, "compute_80");
  const std::vector<char>& text = kernels->images[targets[2].kernels.front().kernel_image].image;
  EXPECT_EQ(text.back(), '\0');
  EXPECT_THAT(std::string(text.data()), HasSubstr(".target sm_80"));
}

TEST(ExportNvrtc, FatBinariesHoldThemAndAreReproducible) {
  const KernelExport* kernels = exported();
  if (kernels == nullptr) GTEST_SKIP() << "no NVRTC here: scripts/setup nvrtc brings one";
  std::vector<ExportedFile> files;
  try {
    files = fatbin_files(*kernels, "mine");
  } catch (const ToolchainError& error) {
    EXPECT_THAT(error.what(), HasSubstr("does not start: install the CUDA toolkit")) << error.log();
    GTEST_SKIP() << error.what();
  }
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].name, "mine-window-0.fatbin");
  EXPECT_EQ(files[1].name, "mine-window-0-builder.fatbin");
  uint32_t magic = 0;
  std::memcpy(&magic, files[0].bytes.data(), sizeof magic);
  EXPECT_EQ(magic, 0xba55ed50U);
  EXPECT_EQ(fatbin_files(*kernels, "mine")[0].bytes, files[0].bytes);
}

}  // namespace
}  // namespace harrier
