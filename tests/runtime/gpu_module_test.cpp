// Machine code on a device: it loads or says why not, runs, and what fails leaves the process usable.
#include <cstring>

#include "device_failure.h"
#include "emulated_device.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/module.h"
#include "runtime/cuda/stream.h"
#include "support/setting.h"

namespace harrier::cuda {
namespace {

using test::compile_emulated;
using test::Failure;
using test::failure_of;
using test::IsOneLineWithARemedy;
using test::open_emulated;
using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kSource = R"(
extern "C" __global__ void __launch_bounds__(64) fill(int* data, int value) { data[threadIdx.x] = value; }
extern "C" __global__ void __launch_bounds__(64) fail(int* data, int value) { __trap(); }
)";

/// Runs `fill` through all of the runtime and returns what is there afterwards.
int filled_with(const DeviceHandle& device, int value) {
  const LoadedModule module(device, compile_emulated(kSource).image);
  DeviceMemory memory(device, 64 * sizeof(int));
  OwnStream stream(device);
  DevicePointer pointer = memory.pointer();
  void* parameters[] = {&pointer, &value};
  {
    const CurrentContext current(*device);
    enqueue(*device, module.function("fill"), {.grid_x = 1, .grid_y = 1, .threads = 64, .shared_bytes = 0}, parameters,
            stream.get());
  }
  stream.synchronize();
  int back[64] = {};
  copy_to_host(*device, std::as_writable_bytes(std::span(back)), memory.pointer());
  return back[63];
}

TEST(LoadedModule, RunsAndIsTimed) {
  const DeviceHandle device = open_emulated();
  EXPECT_EQ(filled_with(device, 41), 41);
  OwnStream stream(device);
  EXPECT_GE(stream.time([] {}), 0.0);
}

TEST(LoadedModule, ThatIsDamagedIsABadImageAndTheProcessGoesOn) {
  const DeviceHandle device = open_emulated();
  const auto load = [&](const std::vector<char>& image) {
    return failure_of([&] { const LoadedModule module(device, image); });
  };
  const std::string text = "this is no machine code";
  const std::vector<std::vector<char>> images = {
      {}, {'\0'}, std::vector<char>(text.c_str(), text.c_str() + text.size() + 1)};
  for (const std::vector<char>& image : images) {
    const Failure failure = load(image);
    EXPECT_EQ(failure.kind, DeviceFailure::kBadImage) << image.size();
    EXPECT_THAT(failure.message, AllOf(IsOneLineWithARemedy(), HasSubstr("compile it again"),
                                       HasSubstr("loading " + std::to_string(image.size()) + " bytes")));
  }
  EXPECT_EQ(filled_with(device, 5), 5);
}

TEST(LoadedModule, ThatIsCutShortNeverReachesTheDriver) {
  const DeviceHandle device = open_emulated();
  // The driver is not told where an image ends, and would read on.
  const Setting results("HARRIER_EMULATED_FAIL", "cuModuleLoadDataEx=719");
  const auto failure = [&](const std::vector<char>& image) {
    return failure_of([&] { const LoadedModule module(device, image); });
  };
  std::vector<char> elf(200);
  std::memcpy(elf.data(), "\177ELF", 4);
  elf[40] = 72;  // sections: from byte 72, two of 64 bytes
  elf[58] = 64;
  elf[60] = 2;
  EXPECT_EQ(failure(elf).kind, DeviceFailure::kLaunch) << "a whole one does reach it";
  const std::vector<char> without_zero = {'P', 'T', 'X'};
  for (const std::vector<char>& image : {std::vector<char>(elf.begin(), elf.end() - 1),
                                         std::vector<char>(elf.begin(), elf.begin() + 63), without_zero}) {
    EXPECT_EQ(failure(image).kind, DeviceFailure::kBadImage);
    EXPECT_THAT(failure(image).message, HasSubstr("it is cut short: compile it again"));
  }
}

TEST(LoadedModule, ForAnotherGpuIsABadImage) {
  const std::vector<char> image = compile_emulated(kSource, "sm_90a").image;
  const Setting capability("HARRIER_EMULATED_CAPABILITY", "8.0");
  const Failure failure = failure_of([&] { const LoadedModule module(open_emulated(), image); });
  EXPECT_EQ(failure.kind, DeviceFailure::kBadImage);
  EXPECT_THAT(failure.message, HasSubstr("CUDA_ERROR_NO_BINARY_FOR_GPU"));
}

TEST(LoadedModule, WithoutTheEntrySaysWhich) {
  const DeviceHandle device = open_emulated();
  const LoadedModule module(device, compile_emulated(kSource).image);
  const Failure failure = failure_of([&] { module.function("flil"); });
  EXPECT_EQ(failure.kind, DeviceFailure::kBadImage);
  EXPECT_THAT(failure.message, HasSubstr("the machine code has no entry flil: CUDA_ERROR_NOT_FOUND"));
}

TEST(LoadedModule, SharedMemoryBeyondTheGpusIsRefusedWithTheLimit) {
  const DeviceHandle device = open_emulated();
  const LoadedModule module(device, compile_emulated(kSource).image);
  EXPECT_NO_THROW(module.function("fill", 227 * 1024));
  EXPECT_THAT(failure_of([&] { module.function("fill", 228 * 1024); }).message,
              HasSubstr("233472 bytes of shared memory for fill, Emulated GPU sm_90 allows 232448"));
  EXPECT_GE(resident_ctas(*device, module.function("fill"), 64, 1024), 1);
}

TEST(LoadedModule, GoesQuietlyWhenTheDriverIsGoingDown) {
  const DeviceHandle device = open_emulated();
  auto module = std::make_unique<LoadedModule>(device, compile_emulated(kSource).image);
  auto stream = std::make_unique<OwnStream>(device);
  const Setting results("HARRIER_EMULATED_FAIL", "cuCtxGetCurrent=4");
  module.reset();
  stream.reset();
}

TEST(Enqueue, ErrorsAreTyped) {
  const DeviceHandle device = open_emulated();
  const LoadedModule module(device, compile_emulated(kSource).image);
  const Function function = module.function("fill");
  const CurrentContext current(*device);
  const auto launch = [&](unsigned threads, const char* results) {
    const Setting failing("HARRIER_EMULATED_FAIL", results);
    DevicePointer pointer = 0;
    int value = 0;
    void* parameters[] = {&pointer, &value};
    return failure_of([&] {
      enqueue(*device, function, {.grid_x = 3, .grid_y = 2, .threads = threads, .shared_bytes = 16}, parameters,
              nullptr);
    });
  };
  const Failure failed = launch(64, "cuLaunchKernel=719");
  EXPECT_EQ(failed.kind, DeviceFailure::kLaunch);
  EXPECT_THAT(failed.message, AllOf(IsOneLineWithARemedy(), HasSubstr("launching 3 x 2 CTAs of 64 threads and 16 bytes "
                                                                      "of shared memory: CUDA_ERROR_LAUNCH_FAILED")));
  EXPECT_EQ(launch(64, "cuLaunchKernel=2").kind, DeviceFailure::kOutOfMemory);
  EXPECT_EQ(launch(2048, "").kind, DeviceFailure::kLaunch);
  EXPECT_EQ(filled_with(device, 6), 6);
}

TEST(Enqueue, KernelThatFailsIsSeenWhenItIsWaitedFor) {
  {
    const DeviceHandle device = open_emulated();
    const LoadedModule module(device, compile_emulated(kSource).image);
    OwnStream stream(device);
    DevicePointer pointer = 0;
    int value = 0;
    void* parameters[] = {&pointer, &value};
    const Failure failure = failure_of([&] {
      const CurrentContext current(*device);
      enqueue(*device, module.function("fail"), {.grid_x = 1, .grid_y = 1, .threads = 64, .shared_bytes = 0},
              parameters, stream.get());
      stream.synchronize();
    });
    EXPECT_EQ(failure.kind, DeviceFailure::kLaunch);
    EXPECT_THAT(failure.message, HasSubstr("CUDA_ERROR_"));
    // Everything after it fails alike, and is not blamed on what is innocent.
    EXPECT_EQ(failure_of([&] { const LoadedModule again(device, compile_emulated(kSource).image); }).kind,
              DeviceFailure::kLaunch);
  }
  EXPECT_EQ(filled_with(open_emulated(), 7), 7) << "a context of its own is another matter";
}

TEST(OwnStream, ThatCannotBeMadeIsAnError) {
  const DeviceHandle device = open_emulated();
  const Setting results("HARRIER_EMULATED_FAIL", "cuStreamCreate=2,cuEventCreate=2");
  EXPECT_EQ(failure_of([&] { const OwnStream stream(device); }).kind, DeviceFailure::kOutOfMemory);
}

}  // namespace
}  // namespace harrier::cuda
