#include "runtime/cuda/module.h"

#include <fmt/format.h>

#include "ir/error.h"

namespace harrier::cuda {

LoadedModule::LoadedModule(DeviceHandle device, std::span<const char> image) : device_(std::move(device)) {
  const CurrentContext current(*device_);
  const Driver& driver = device_->driver();
  const Result result = driver.module_load(&module_, image.data(), 0, nullptr, nullptr);
  if (result == kSuccess) return;
  const std::string what = fmt::format("loading {} bytes of machine code on {}", image.size(), device_->facts().name);
  if (result == kOutOfMemory) check(driver, result, what);
  throw DeviceError(DeviceFailure::kBadImage,
                    fmt::format("{}: {}: compile it again for this GPU", what, print_result(driver, result)));
}

LoadedModule::~LoadedModule() {
  if (module_ == nullptr) return;
  const CurrentContext current(*device_);
  device_->driver().module_unload(module_);
}

Function LoadedModule::function(const char* name, int64_t shared_bytes) const {
  constexpr int64_t kWithoutAsking = 48 * 1024;
  const CurrentContext current(*device_);
  const Driver& driver = device_->driver();
  Function function = nullptr;
  const Result found = driver.module_function(&function, module_, name);
  if (found != kSuccess) {
    throw DeviceError(DeviceFailure::kBadImage, fmt::format("the machine code has no entry {}: {}: compile it again",
                                                            name, print_result(driver, found)));
  }
  if (shared_bytes > kWithoutAsking) {
    check(driver, driver.function_set(function, kFunctionMaxDynamicSharedBytes, static_cast<int>(shared_bytes)),
          fmt::format("{} bytes of shared memory for {}, {} allows {}", shared_bytes, name, device_->facts().name,
                      device_->facts().shared_bytes_per_block));
  }
  return function;
}

int resident_ctas(const OpenDevice& device, Function function, int threads, int64_t shared_bytes) {
  const CurrentContext current(device);
  int ctas = 0;
  check(device.driver(), device.driver().occupancy(&ctas, function, threads, static_cast<size_t>(shared_bytes)),
        "the kernel's occupancy");
  return ctas;
}

void enqueue(const OpenDevice& device, Function function, const LaunchShape& shape, void** parameters, Stream stream) {
  const Result result = device.driver().launch(function, shape.grid_x, shape.grid_y, 1, shape.threads, 1, 1,
                                               static_cast<unsigned>(shape.shared_bytes), stream, parameters, nullptr);
  if (result == kSuccess) return;
  throw DeviceError(result == kOutOfMemory ? DeviceFailure::kOutOfMemory : DeviceFailure::kLaunch,
                    fmt::format("launching {} x {} CTAs of {} threads and {} bytes of shared memory: {}: an earlier "
                                "launch may have failed; `harrier doctor` shows whether the GPU still answers",
                                shape.grid_x, shape.grid_y, shape.threads, shape.shared_bytes,
                                print_result(device.driver(), result)));
}

}  // namespace harrier::cuda
