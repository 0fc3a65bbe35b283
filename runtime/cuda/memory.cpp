#include "runtime/cuda/memory.h"

#include <fmt/format.h>

#include <utility>

#include "ir/error.h"

namespace harrier::cuda {

DeviceMemory::DeviceMemory(DeviceHandle device, int64_t bytes) : device_(std::move(device)), bytes_(bytes) {
  if (bytes <= 0) return;
  const Driver& driver = device_->driver();
  const CurrentContext current(*device_);
  const Result result = driver.memory_allocate(&pointer_, static_cast<size_t>(bytes));
  if (result == kSuccess) return;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  driver.memory_info(&free_bytes, &total_bytes);
  check(driver, result, fmt::format("{} bytes of device memory ({} of {} are free)", bytes, free_bytes, total_bytes));
}

DeviceMemory::~DeviceMemory() {
  if (pointer_ == 0) return;
  const CurrentContext current(*device_, std::nothrow);
  if (current) device_->driver().memory_free(pointer_);
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : device_(std::move(other.device_)),
      pointer_(std::exchange(other.pointer_, 0)),
      bytes_(std::exchange(other.bytes_, 0)) {}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(pointer_, other.pointer_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

DeviceMemory copy_to_device(const DeviceHandle& device, std::span<const std::byte> bytes) {
  DeviceMemory memory(device, static_cast<int64_t>(bytes.size()));
  copy_to_device(*device, memory.pointer(), bytes);
  return memory;
}

void copy_to_device(const OpenDevice& device, DevicePointer to, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const CurrentContext current(device);
  const Driver& driver = device.driver();
  const std::string what = fmt::format("copying {} bytes to the GPU", bytes.size());
  check(driver, driver.copy_to_device(to, bytes.data(), bytes.size()), what);
  // From pageable memory the driver returns once it has staged the bytes; streams that do not wait for the default
  // stream could then read what was there before.
  check(driver, driver.stream_synchronize(nullptr), what);
}

void copy_to_host(const OpenDevice& device, std::span<std::byte> to, DevicePointer from) {
  if (to.empty()) return;
  const CurrentContext current(device);
  check(device.driver(), device.driver().copy_to_host(to.data(), from, to.size()),
        fmt::format("copying {} bytes from the GPU", to.size()));
}

void check_device_pointer(const OpenDevice& device, DevicePointer pointer, const char* what, int64_t element_bytes) {
  const CurrentContext current(device);
  unsigned type = 0;
  int ordinal = -1;
  const Driver& driver = device.driver();
  const Result known = driver.pointer_attribute(&type, kPointerMemoryType, pointer);
  // Memory that the driver does not know is an invalid value; anything else is not the pointer's fault.
  if (known != kInvalidValue) check(driver, known, what);
  if (known == kInvalidValue || type != kMemoryTypeDevice) {
    throw InvalidInput(fmt::format("{} at {:#x} is not device memory: copy it to GPU {} first", what, pointer,
                                   device.facts().ordinal));
  }
  check(driver, driver.pointer_attribute(&ordinal, kPointerDeviceOrdinal, pointer), what);
  if (ordinal != device.facts().ordinal) {
    throw InvalidInput(fmt::format("{} lies on GPU {}, the kernel is for GPU {}: move one of them", what, ordinal,
                                   device.facts().ordinal));
  }
  if (pointer % static_cast<DevicePointer>(element_bytes) != 0) {
    throw InvalidInput(
        fmt::format("{} starts at {:#x}, its elements have {} bytes and need a multiple of that: copy it", what,
                    pointer, element_bytes));
  }
}

}  // namespace harrier::cuda
