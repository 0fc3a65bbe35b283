// Machine code that is remembered between processes: found without NVRTC, refused where it is wrong, never a hindrance.
#include "compiler/cuda/cached_code.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "compiler/cuda/artifact_key.h"
#include "compiler/cuda/image_check.h"
#include "ir/error.h"
#include "store/artifacts.h"
#include "store/maintenance.h"
#include "store/tuning_rows.h"
#include "support/temporary_folder.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using testing::HasSubstr;

class CachedCode : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::is_emulated()) GTEST_SKIP() << "on the emulated GPU, which does not mind what is done to its code";
    reopen();
  }
  void TearDown() override { store_.reset(); }

  /// As another process would.
  void reopen() {
    store_ =
        open_store({.folder = folder_.path(), .warn = [this](const std::string& text) { warnings_.push_back(text); }});
  }

  /// A GPU whose NVRTC has not been loaded.
  static Gpu fresh_gpu(const std::string& nvrtc = HARRIER_EMULATED_GPU) {
    return {.device = test::gpu().device, .nvrtc = cuda::LazyNvrtc(nvrtc)};
  }

  CudaKernel compile(const Gpu& gpu, bool frozen = false) const {
    return compile_cuda(workload_, gpu, {.architecture = "sm_90", .store = store_, .frozen = frozen});
  }

  void expect_right(const CudaKernel& kernel) const {
    const AttentionCase test{workload_, packed_geometry({90}, {90}), LayoutKind::kPacked, 3};
    const AttentionErrors errors = run_case(
        test, [&](const AttentionTensors& tensors, const Bindings& bindings) { kernel.run(tensors, bindings); });
    EXPECT_LE(errors.out, 1.5e-2);
  }

  /// Other bytes under the same key, with every hash right.
  void plant(const std::string& key, const std::vector<char>& bytes) const {
    std::optional<Artifact> artifact = find_artifact(*store_, key);
    ASSERT_TRUE(artifact);
    for (ArtifactPart& part : artifact->parts) {
      if (part.name == "kernel") part.bytes = bytes;
    }
    ASSERT_TRUE(replace_artifact(*store_, *artifact));
  }

  const test::TemporaryFolder folder_;
  StoreHandle store_;
  std::vector<std::string> warnings_;
  Workload workload_ = test::workload_of(window(20, 0), test::shape_of(1, 1, 32));
};

TEST_F(CachedCode, IsFoundWithoutLoadingNvrtc) {
  const Gpu first = fresh_gpu();
  const CudaKernel made = compile(first);
  EXPECT_FALSE(made.was_cached());
  EXPECT_TRUE(first.nvrtc.is_loaded());
  reopen();
  const Gpu second = fresh_gpu();
  const CudaKernel found = compile(second);
  EXPECT_TRUE(found.was_cached());
  EXPECT_FALSE(second.nvrtc.is_loaded());
  EXPECT_EQ(found.artifact(), made.artifact());
  EXPECT_EQ(found.binary().image, made.binary().image);
  EXPECT_EQ(found.binary().log, made.binary().log);
  EXPECT_EQ(found.binary().notes, made.binary().notes);
  ASSERT_EQ(found.binary().entries.size(), made.binary().entries.size());
  for (size_t i = 0; i < made.binary().entries.size(); ++i) {
    EXPECT_EQ(found.binary().entries[i].name, made.binary().entries[i].name);
    EXPECT_EQ(found.binary().entries[i].registers, made.binary().entries[i].registers);
  }
  expect_right(found);
  EXPECT_THAT(warnings_, testing::IsEmpty());
  EXPECT_THAT(verify_store(*store_).problems, testing::IsEmpty());
}

TEST_F(CachedCode, OfAnyToolchainWillDoWhereThereIsNone) {
  const CudaKernel made = compile(fresh_gpu());
  const Gpu without = fresh_gpu("/no/such/libnvrtc.so");
  EXPECT_EQ(compile(without).artifact(), made.artifact());
  workload_.pattern.mask = causal();
  EXPECT_THROW(compile(without), ToolchainError);
}

TEST_F(CachedCode, OfAnotherNvrtcIsNotTaken) {
  const CudaKernel made = compile(fresh_gpu());
  const std::string copy = folder_ / "libnvrtc.so";
  std::filesystem::copy_file(HARRIER_EMULATED_GPU, copy);
  ASSERT_TRUE(put_toolchain(
      *store_,
      {.wish = cuda::nvrtc_wish(copy), .path = copy, .stamp = "of an older file", .identity = "NVRTC 12.0 old"}));
  EXPECT_EQ(known_toolchain(*store_, cuda::LazyNvrtc(copy)), std::nullopt) << "the file has changed";
  EXPECT_EQ(known_toolchain(*store_, cuda::LazyNvrtc(HARRIER_EMULATED_GPU)), toolchain_name(test::gpu().nvrtc));
}

TEST_F(CachedCode, FrozenNothingIsCompiled) {
  const auto message = [&](const Gpu& gpu) {
    try {
      compile(gpu, true);
    } catch (const ToolchainError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const Gpu gpu = fresh_gpu();
  const std::string missing = message(gpu);
  EXPECT_THAT(missing, HasSubstr("HARRIER_FROZEN=0 harrier run test.attn --backend cuda"));
  EXPECT_THAT(missing, testing::ContainsRegex("no machine code [0-9a-f]{64} for sm_90"));
  EXPECT_FALSE(gpu.nvrtc.is_loaded());
  EXPECT_THROW(compile_cuda(workload_, gpu, {.frozen = true}), ToolchainError) << "without a store too";
  compile(fresh_gpu());
  EXPECT_EQ(message(gpu), "no error");
  EXPECT_FALSE(gpu.nvrtc.is_loaded());
}

TEST_F(CachedCode, ThatTheGpuRefusesIsCompiledAnewAndReplaced) {
  const std::string key = compile(fresh_gpu()).artifact();
  plant(key, std::vector<char>(200, 'x'));
  const CudaKernel healed = compile(fresh_gpu());
  EXPECT_FALSE(healed.was_cached());
  expect_right(healed);
  EXPECT_THAT(warnings_, testing::ElementsAre(HasSubstr("the GPU refused machine code of the cache")));
  EXPECT_FALSE(find_quarantine(*store_, "artifact:" + key, cuda::silicon_key(test::gpu().device->facts()), 0));
  reopen();
  EXPECT_TRUE(compile(fresh_gpu()).was_cached());
}

TEST_F(CachedCode, OfAnotherMachineIsCompiledAnew) {
  const std::string key = compile(fresh_gpu()).artifact();
  std::vector<char> host(200, '\0');
  std::memcpy(host.data(), "\177ELF\2", 5);
  plant(key, host);
  const CudaKernel healed = compile(fresh_gpu());
  EXPECT_FALSE(healed.was_cached());
  expect_right(healed);
}

TEST_F(CachedCode, InQuarantineIsNotTakenUntilFreshCodeHasLoaded) {
  const std::string key = compile(fresh_gpu()).artifact();
  const std::string silicon = cuda::silicon_key(test::gpu().device->facts());
  ASSERT_TRUE(quarantine(*store_, {.subject = "artifact:" + key, .silicon_key = silicon, .reason = "hung"}));
  EXPECT_FALSE(compile(fresh_gpu()).was_cached());
  EXPECT_TRUE(compile(fresh_gpu()).was_cached()) << "it took the old one's place";
}

TEST_F(CachedCode, WithAStoreThatCannotBeUsedKernelsCompile) {
  ASSERT_EQ(chmod(folder_.path().c_str(), 0777), 0);
  reopen();
  const CudaKernel kernel = compile(fresh_gpu());
  EXPECT_FALSE(kernel.was_cached());
  expect_right(kernel);
  EXPECT_EQ(warnings_.size(), 1);
}

TEST(ArtifactKey, FollowsFromWhatIsCompiledAndNothingElse) {
  const auto key_of = [](const Mask& mask, const std::string& architecture) {
    const Workload workload = test::workload_of(mask, test::shape_of(1, 1, 64));
    return artifact_source_key(prepare_cuda(workload, {.architecture = architecture}));
  };
  const std::string key = key_of(window(10, 0), "sm_90a");
  EXPECT_EQ(key_of(window(10, 0), "sm_90a"), key);
  EXPECT_EQ(key_of(window(30, 0), "sm_90a"), key) << "numbers are arguments";
  EXPECT_NE(key_of(window(10, 0), "sm_80"), key);
  EXPECT_NE(key_of(window(10, 0), "sm_89"), key_of(window(10, 0), "sm_80")) << "the same source for another GPU";
  EXPECT_NE(key_of(causal(), "sm_90a"), key);
}

TEST(ImageCheck, TellsTheGpuThatCodeIsFor) {
  const auto problem = [](unsigned machine, unsigned char abi, uint32_t flags, const std::string& architecture) {
    std::vector<char> image(64, '\0');
    std::memcpy(image.data(), "\177ELF\2", 5);
    image[8] = static_cast<char>(abi);
    image[18] = static_cast<char>(machine);
    std::memcpy(image.data() + 48, &flags, sizeof flags);
    return image_problem(image, architecture);
  };
  EXPECT_EQ(problem(190, 8, 0x6005a04, "sm_90a"), "") << "as CUDA 13 writes it";
  EXPECT_EQ(problem(190, 7, 0x005a055a, "sm_90a"), "") << "as CUDA 12 writes it";
  EXPECT_EQ(problem(190, 8, 0x6007802, "sm_120"), "");
  EXPECT_THAT(problem(190, 8, 0x6005004, "sm_90a"), HasSubstr("for sm_80, not for sm_90a"));
  EXPECT_THAT(problem(62, 8, 0x6005a04, "sm_90a"), HasSubstr("for machine 62"));
  EXPECT_THAT(problem(190, 8, 0x6005a04, "compute_80"), HasSubstr("asks for PTX"));
  EXPECT_THAT(image_problem(std::vector<char>{'\177', 'E', 'L', 'F'}, "sm_80"), HasSubstr("too few"));
  EXPECT_EQ(image_problem(std::vector<char>{'/', '/'}, "compute_80"), "");
}

}  // namespace
}  // namespace harrier
