// Device memory that frees itself.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/cuda/device.h"

namespace harrier::cuda {

class DeviceMemory {
 public:
  DeviceMemory() = default;
  /// Throws DeviceError: how many bytes were asked for, how many are free.
  DeviceMemory(DeviceHandle device, int64_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;

  DevicePointer pointer() const { return pointer_; }
  int64_t bytes() const { return bytes_; }

 private:
  DeviceHandle device_;
  DevicePointer pointer_ = 0;
  int64_t bytes_ = 0;
};

/// Copies; all return once the bytes are there, whatever stream reads them next. Throw DeviceError.
DeviceMemory copy_to_device(const DeviceHandle& device, std::span<const std::byte> bytes);
void copy_to_device(const OpenDevice& device, DevicePointer to, std::span<const std::byte> bytes);
void copy_to_host(const OpenDevice& device, std::span<std::byte> to, DevicePointer from);

/// Throws InvalidInput unless `pointer` is memory of this device, at a multiple of its elements' bytes:
/// "`what` at 0x1234 is not device memory ...".
void check_device_pointer(const OpenDevice& device, DevicePointer pointer, const char* what, int64_t element_bytes = 1);

}  // namespace harrier::cuda
