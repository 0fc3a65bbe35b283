// One GPU: what it is, and its primary context while somebody uses it.
#pragma once

#include <memory>
#include <new>
#include <string>
#include <vector>

#include "runtime/cuda/driver.h"

namespace harrier::cuda {

struct DeviceFacts {
  int ordinal = 0;
  std::string name;
  std::string pci_bus;
  int capability_major = 0;
  int capability_minor = 0;
  int multiprocessors = 0;
  int64_t l2_bytes = 0;
  int64_t shared_bytes_per_multiprocessor = 0;
  int64_t shared_bytes_per_block = 0;  // with opt-in
  int64_t registers_per_multiprocessor = 0;
  int memory_bus_bits = 0;
  int memory_clock_khz = 0;
  int64_t memory_bytes = 0;
};

/// What every GPU of this process is. Throws DeviceError.
std::vector<DeviceFacts> find_devices(const Driver& driver);

/// What decides how fast a plan is: equal for GPUs of the same silicon, whatever their product names and memory sizes.
/// "sm90-132sm-l2:52428800-smem:233472-..." The memory clock counts in classes of 100 MHz.
std::string silicon_key(const DeviceFacts& facts);

/// The most specific architecture that kernels are compiled for: sm_90a on Hopper, else sm_80 (8.0 and newer), sm_89.
/// Throws DeviceError for GPUs before 8.0.
std::string architecture_of(const DeviceFacts& facts);

/// A GPU in use. Holds the primary context, which it shares with the frameworks of the process.
class OpenDevice {
 public:
  /// Throws DeviceError: no such ordinal, a context that does not start.
  OpenDevice(std::shared_ptr<const Driver> driver, int ordinal);
  ~OpenDevice();
  OpenDevice(const OpenDevice&) = delete;
  OpenDevice& operator=(const OpenDevice&) = delete;

  const Driver& driver() const { return *driver_; }
  const DeviceFacts& facts() const { return facts_; }
  Context context() const { return context_; }

 private:
  std::shared_ptr<const Driver> driver_;
  DeviceFacts facts_;
  Device device_ = 0;
  Context context_ = nullptr;
};

using DeviceHandle = std::shared_ptr<const OpenDevice>;

/// Makes the device's context current for this thread, and the one before when it ends.
class CurrentContext {
 public:
  explicit CurrentContext(const OpenDevice& device);
  /// For destructors. False where the context cannot be made current: the driver is going down with the process, which
  /// gives everything back anyway.
  CurrentContext(const OpenDevice& device, std::nothrow_t) noexcept;
  explicit operator bool() const { return current_; }
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  Result enter() noexcept;

  const OpenDevice& device_;
  bool current_ = false;
  bool pushed_ = false;  // false where it was current already: frameworks keep it so, and a query is cheaper
};

}  // namespace harrier::cuda
