// Packs: kernels from one file, without NVRTC.
#include "compiler/export/pack.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "compiler/harrier_export.h"
#include "support/setting.h"
#include "support/temporary_folder.h"
#include "support/tensors.h"
#include "test_gpu.h"

namespace harrier {
namespace {

namespace fs = std::filesystem;
using test::gpu;
using testing::HasSubstr;

/// A GPU on a machine without NVRTC.
Gpu gpu_alone() {
  return open_gpu({.ordinal = 0, .libcuda = test::is_emulated() ? HARRIER_EMULATED_GPU : "", .libnvrtc = "/no/such"});
}

Workload named(const char* name, Mask mask) {
  Workload workload = test::workload_of(std::move(mask), test::shape_of(2, 2, 64));
  workload.name = name;
  return workload;
}

class GpuPack : public testing::Test {
 protected:
  std::string pack_of(const std::vector<ExportWorkload>& workloads) const {
    export_kernels(
        workloads, gpu().nvrtc,
        {.architectures = {target_of(gpu()).architecture}, .format = ExportFormat::kPack, .folder = folder_.path()});
    return folder_ / "harrier_kernels.pack";
  }

  const test::TemporaryFolder folder_;
};

/// What a kernel makes of a packed batch of arrays drawn from a seed.
std::vector<unsigned char> run(const CudaKernel& kernel, const Bindings& bindings) {
  constexpr int64_t kTokens = 300;
  std::mt19937_64 random(7);
  const auto draw = [&] {
    return encode(random_values(random, kTokens * 2 * 64, DataType::kBFloat16), DataType::kBFloat16);
  };
  std::vector<unsigned char> q = draw(), k = draw(), v = draw(), out(q.size());
  const auto view = [&](std::vector<unsigned char>& values) {
    return TensorView{.data = values.data(), .dtype = DataType::kBFloat16, .shape = {kTokens, 2, 64}, .strides = {}};
  };
  AttentionTensors tensors;
  tensors.q = view(q);
  tensors.k = view(k);
  tensors.v = view(v);
  tensors.out = view(out);
  tensors.cu_seqlens = {0, 120, kTokens};
  kernel.run(tensors, bindings);
  return out;
}

TEST_F(GpuPack, GivesTheBitsOfTheCompilerWithoutIt) {
  const Workload near = named("window", window(100, 0) | sink(3));
  const Workload packed_documents = named("documents", documents("ids") & causal());
  const KernelPack pack = load_pack(pack_of({{.workload = near}, {.workload = packed_documents}}));
  EXPECT_EQ(run(load_kernel(pack, "window", gpu_alone()).kernel, {}), run(compile_cuda(near, gpu()), {}));

  // Ids that rise are intervals and have code of their own; both kinds are there.
  const CudaKernel kernel = load_kernel(pack, "documents", gpu_alone()).kernel;
  std::vector<int32_t> ids(300);
  for (const int divisor : {40, 0}) {
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(divisor > 0 ? i / 40 : i * 7 % 5);
    const Bindings bindings = {{"ids", {.data = ids.data(), .type = ElementType::kInt32, .shape = {300}}}};
    EXPECT_EQ(run(kernel, bindings), run(compile_cuda(packed_documents, gpu()), bindings)) << divisor;
  }
}

TEST_F(GpuPack, GivesGradientsWithoutTheCompiler) {
  Workload workload = named("window", window(100, 0) | sink(3));
  const AttentionCase test{workload, packed_geometry({120, 70}, {120, 70}), LayoutKind::kPacked, 9};
  workload.shape.direction = Direction::kBackward;
  const KernelPack pack = load_pack(pack_of({{.workload = workload}}));
  const PackedKernel packed = load_kernel(pack, "window", gpu_alone());
  EXPECT_EQ(packed.kernel.compilation().plan, prepare_cuda(workload, target_of(gpu())).plan);
  test::expect_gradients_are_right(
      test, run_backward_case(
                test, [&](const AttentionTensors& tensors, const AttentionGradients& gradients,
                          const Bindings& bindings) { packed.kernel.run_backward(tensors, gradients, bindings); }));
}

TEST_F(GpuPack, LengthsChooseThePlanAndBringItsSchedule) {
  const Workload workload = named("window", window(100, 0) | sink(3));
  const std::string architecture = target_of(gpu()).architecture;
  const CudaPlan plan = prepare_cuda(workload, target_of(gpu())).plan;
  CudaPlan other = plan;
  other.ctas_per_sm = 1;
  const CudaSchedule schedule = {.heads_per_group = 2, .split_tiles = 2, .split_capacity = 32};
  const LengthBucket small{.query_length = 128, .key_length = 128, .batch_heads = 2};
  const LengthBucket large{.query_length = 8192, .key_length = 8192, .batch_heads = 2};
  const std::vector<ExportCandidate> candidates = {
      {.architecture = architecture, .plan = plan, .microseconds = {1, 2}},
      {.architecture = architecture, .plan = other, .schedule = schedule, .microseconds = {2, 1}}};
  const KernelPack pack =
      load_pack(pack_of({{.workload = workload, .buckets = {small, large}, .candidates = candidates}}));
  const PackedKernel first = load_kernel(pack, "window", gpu_alone(), small);
  EXPECT_EQ(first.kernel.compilation().plan, plan);
  EXPECT_FALSE(first.schedule);
  const PackedKernel second = load_kernel(pack, "window", gpu_alone(), large);
  EXPECT_EQ(second.kernel.compilation().plan, other);
  EXPECT_EQ(second.schedule, schedule);
}

std::string refusal(const auto& action) {
  try {
    action();
  } catch (const InvalidInput& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(GpuPack, WhatIsNotThereIsSaidInOneLine) {
  const std::string path = pack_of({{.workload = named("window", window(100, 0) | sink(3))}});
  const KernelPack pack = load_pack(path);
  EXPECT_THAT(refusal([&] { load_kernel(pack, "other", gpu_alone()); }),
              HasSubstr("has no workload other: it has window"));
  const Setting ampere("HARRIER_EMULATED_CAPABILITY", "8.0");
  if (test::is_emulated()) {
    EXPECT_THAT(refusal([&] { load_kernel(pack, "window", gpu_alone()); }),
                HasSubstr("compute capability 8.0: export it for sm_80"));
  }
  EXPECT_THAT(refusal([&] { load_pack(path + ".missing"); }), HasSubstr("no such file"));
  std::ofstream(folder_ / "text") << "not a database, but long enough to look at the header of one";
  EXPECT_THAT(refusal([&] { load_pack(folder_ / "text"); }), HasSubstr("harrier export --format pack"));
}

/// The bytes of the images of a pack, in the order of their sources.
std::vector<std::vector<char>> images(const KernelPack& pack) {
  std::vector<std::vector<char>> bytes;
  for (const auto& [source, code] : pack.codes) bytes.insert(bytes.end(), {code.kernel.image, code.builder.image});
  return bytes;
}

/// A pack whose file can be damaged, with the seed that says where.
class GpuPackDamaged : public GpuPack {
 protected:
  GpuPackDamaged() {
    const std::string path = pack_of({{.workload = named("window", window(100, 0) | sink(3))}});
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    whole_ = text.str();
    pack_ = load_pack(path);
  }

  /// Writes `damaged` and loads it: the pack's own images, or one line that refuses it. True where it was refused.
  bool refuses(const std::string& damaged) const {
    const std::string path = folder_ / "damaged";
    std::ofstream(path, std::ios::binary) << damaged;
    try {
      EXPECT_EQ(images(load_pack(path)), images(pack_));
      return false;
    } catch (const InvalidInput& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return true;
    }
  }

  size_t below(size_t bound) { return random_() % bound; }

  std::string flipped(size_t place) {
    std::string damaged = whole_;
    damaged[place] ^= static_cast<char>(1U << below(8));
    return damaged;
  }

  std::string whole_;
  KernelPack pack_;
  const uint64_t seed_ = std::random_device()();

 private:
  const testing::ScopedTrace trace_{__FILE__, __LINE__, fmt::format("seed {}", seed_)};
  std::mt19937_64 random_{seed_};
};

TEST_F(GpuPackDamaged, CutShortItIsRefused) {
  for (int round = 0; round < 25; ++round) EXPECT_TRUE(refuses(whole_.substr(0, below(whole_.size()))));
}

// Most bits matter; some lie in pages that SQLite left unused, or in what kernels are not made of.
TEST_F(GpuPackDamaged, WithABitFlippedItIsRefusedOrUnharmed) {
  for (int round = 0; round < 100; ++round) refuses(flipped(below(whole_.size())));
}

TEST_F(GpuPackDamaged, WithABitOfMachineCodeFlippedItIsRefused) {
  constexpr size_t kPieceBytes = 64;
  for (const std::vector<char>& image : images(pack_)) {
    int flips = 0;
    for (int round = 0; round < 40; ++round) {
      // A piece that lies across two of SQLite's pages is found nowhere, and one of zeros in what is unused too.
      const std::string_view piece(image.data() + below(image.size() - kPieceBytes), kPieceBytes);
      const size_t place = whole_.find(piece);
      if (place == std::string::npos || whole_.find(piece, place + 1) != std::string::npos) continue;
      EXPECT_TRUE(refuses(flipped(place + below(kPieceBytes))));
      ++flips;
    }
    EXPECT_GT(flips, 0);
  }
}

}  // namespace
}  // namespace harrier
