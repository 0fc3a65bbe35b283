// Device memory: it frees itself, says what it lacks, and is told from memory of the host.
#include <array>

#include "device_failure.h"
#include "emulated_device.h"
#include "runtime/cuda/memory.h"
#include "support/setting.h"

namespace harrier::cuda {
namespace {

using test::Failure;
using test::failure_of;
using test::message_of;
using test::open_emulated;
using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kBytes = int64_t{1} << 20;

size_t free_bytes(const OpenDevice& device) {
  const CurrentContext current(device);
  size_t free = 0;
  size_t total = 0;
  check(device.driver(), device.driver().memory_info(&free, &total), "memory");
  return free;
}

TEST(DeviceMemory, IsFreedWithItsOwner) {
  const DeviceHandle device = open_emulated();
  const size_t before = free_bytes(*device);
  {
    const DeviceMemory memory(device, kBytes);
    EXPECT_NE(memory.pointer(), 0U);
    EXPECT_EQ(memory.bytes(), kBytes);
    EXPECT_EQ(free_bytes(*device), before - kBytes);
  }
  EXPECT_EQ(free_bytes(*device), before);
}

TEST(DeviceMemory, MovesWithoutACopyAndFreesOnce) {
  const DeviceHandle device = open_emulated();
  const size_t before = free_bytes(*device);
  {
    DeviceMemory first(device, kBytes);
    const DevicePointer pointer = first.pointer();
    DeviceMemory second(std::move(first));
    EXPECT_EQ(second.pointer(), pointer);
    DeviceMemory third(device, 2 * kBytes);
    third = std::move(second);
    EXPECT_EQ(third.pointer(), pointer);
    EXPECT_EQ(third.bytes(), kBytes);
    third = DeviceMemory();
    EXPECT_EQ(third.pointer(), 0U);
    EXPECT_EQ(third.bytes(), 0);
  }
  EXPECT_EQ(free_bytes(*device), before);
}

TEST(DeviceMemory, OfNoBytesTakesNone) {
  const DeviceHandle device = open_emulated();
  const Setting results("HARRIER_EMULATED_FAIL", "cuMemAlloc_v2=2");
  EXPECT_EQ(DeviceMemory(device, 0).pointer(), 0U);
  EXPECT_EQ(copy_to_device(device, {}).pointer(), 0U);
  EXPECT_NO_THROW(copy_to_host(*device, {}, 0));
}

TEST(DeviceMemory, ThatThereIsNotSaysHowMuchWasAskedForAndIsFree) {
  const DeviceHandle device = open_emulated();
  const std::string free = std::to_string(free_bytes(*device));
  for (const char* results : {"", "cuMemAlloc_v2=2"}) {
    SCOPED_TRACE(results);
    const Setting failing("HARRIER_EMULATED_FAIL", results);
    constexpr int64_t kTooMany = int64_t{1} << 40;
    const Failure failure = failure_of([&] { const DeviceMemory memory(device, kTooMany); });
    EXPECT_EQ(failure.kind, DeviceFailure::kOutOfMemory);
    EXPECT_EQ(failure.message, "1099511627776 bytes of device memory (" + free +
                                   " of 8589934592 are free): CUDA_ERROR_OUT_OF_MEMORY (out of memory): free device "
                                   "memory, or lower the batch or the lengths");
  }
  EXPECT_NO_THROW(DeviceMemory(device, kBytes)) << "less fits all the same";
}

TEST(DeviceMemory, GoesQuietlyWhenTheDriverIsGoingDown) {
  const DeviceHandle device = open_emulated();
  auto memory = std::make_unique<DeviceMemory>(device, 16);
  const Setting results("HARRIER_EMULATED_FAIL", "cuCtxGetCurrent=4");
  EXPECT_ANY_THROW(const CurrentContext current(*device));
  memory.reset();
}

TEST(DeviceMemory, CopiesThereAndBack) {
  const DeviceHandle device = open_emulated();
  std::array<std::byte, 100> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  const DeviceMemory memory = copy_to_device(device, bytes);
  std::array<std::byte, 100> back{};
  copy_to_host(*device, back, memory.pointer());
  EXPECT_EQ(back, bytes);
  const Failure failure = failure_of([&] {
    const Setting results("HARRIER_EMULATED_FAIL", "cuMemcpyDtoH_v2=719");
    copy_to_host(*device, back, memory.pointer());
  });
  EXPECT_EQ(failure.kind, DeviceFailure::kLaunch);
  EXPECT_THAT(failure.message, AllOf(HasSubstr("copying 100 bytes from the GPU: CUDA_ERROR_LAUNCH_FAILED"),
                                     HasSubstr("start the process again")));
}

TEST(DevicePointer, IsToldFromTheHosts) {
  const DeviceHandle device = open_emulated();
  const DeviceMemory memory(device, kBytes);
  EXPECT_NO_THROW(check_device_pointer(*device, memory.pointer(), "q"));
  EXPECT_NO_THROW(check_device_pointer(*device, memory.pointer() + kBytes - 1, "q"));
  EXPECT_NO_THROW(check_device_pointer(*device, memory.pointer() + 8, "q", 8));
  EXPECT_THAT(message_of<InvalidInput>([&] { check_device_pointer(*device, memory.pointer() + 4, "q", 8); }),
              HasSubstr("its elements have 8 bytes and need a multiple of that: copy it"));
  std::array<float, 4> host{};
  for (const DevicePointer pointer : {reinterpret_cast<DevicePointer>(host.data()), DevicePointer{0}}) {
    EXPECT_THAT(message_of<InvalidInput>([&] { check_device_pointer(*device, pointer, "q"); }),
                testing::MatchesRegex("q at 0x[0-9a-f]+ is not device memory: copy it to GPU 0 first"));
  }
}

TEST(DevicePointer, IsOfTheDeviceThatTheKernelIsFor) {
  const Setting devices("HARRIER_EMULATED_DEVICES", "2");
  const DeviceHandle first = open_emulated(0);
  const DeviceHandle second = open_emulated(1);
  const DeviceMemory memory(second, 64);
  EXPECT_EQ(message_of<InvalidInput>([&] { check_device_pointer(*first, memory.pointer(), "k"); }),
            "k lies on GPU 1, the kernel is for GPU 0: move one of them");
}

TEST(DevicePointer, IsNotBlamedForADeviceThatFailed) {
  const DeviceHandle device = open_emulated();
  const DeviceMemory memory(device, 64);
  const Setting results("HARRIER_EMULATED_FAIL", "cuPointerGetAttribute=700");
  EXPECT_EQ(failure_of([&] { check_device_pointer(*device, memory.pointer(), "q"); }).kind, DeviceFailure::kLaunch);
}

}  // namespace
}  // namespace harrier::cuda
