// Machine code on a device, and launching it.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "runtime/cuda/device.h"

namespace harrier::cuda {

/// A loaded cubin (or PTX text, which the driver compiles). Unloads itself.
class LoadedModule {
 public:
  /// Throws DeviceError (kBadImage) for code that is damaged or for another GPU.
  LoadedModule(DeviceHandle device, std::span<const char> image);
  ~LoadedModule();
  LoadedModule(const LoadedModule&) = delete;
  LoadedModule& operator=(const LoadedModule&) = delete;

  const DeviceHandle& device() const { return device_; }

  /// An entry that may use `shared_bytes` of dynamic shared memory. Throws DeviceError.
  Function function(const char* name, int64_t shared_bytes = 0) const;

 private:
  DeviceHandle device_;
  Module module_ = nullptr;
};

/// CTAs of this size that fit a multiprocessor at a time.
int resident_ctas(const OpenDevice& device, Function function, int threads, int64_t shared_bytes);

struct LaunchShape {
  unsigned grid_x = 1;
  unsigned grid_y = 1;
  unsigned grid_z = 1;
  unsigned threads = 128;
  int64_t shared_bytes = 0;
};

/// Enqueues one kernel; `parameters` points to its parameters in order. No allocation, no synchronisation. The device's
/// context must be current. Throws DeviceError (kLaunch).
void enqueue(const OpenDevice& device, Function function, const LaunchShape& shape, void** parameters, Stream stream);

}  // namespace harrier::cuda
