#include "runtime/cuda/driver.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>

#include "ir/error.h"

namespace harrier::cuda {
namespace {

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

template <typename Pointer>
void find(void* library, const std::string& path, const char* symbol, Pointer& function) {
  function = reinterpret_cast<Pointer>(dlsym(library, symbol));
  if (function != nullptr) return;
  throw DeviceError(DeviceFailure::kDriverTooOld, fmt::format("{} has no {}: install a driver for CUDA {} or newer",
                                                              path, symbol, version_text(kOldestDriver)));
}

/// What a kernel did wrong: every later call in its context returns the same.
bool is_kernel_fault(Result result) {
  return result == kIllegalAddress || result == kLaunchTimeout ||
         (result >= kHardwareStackError && result <= kLaunchFailed);
}

struct Advice {
  DeviceFailure failure;
  const char* remedy;
};

Advice advice_for(Result result) {
  switch (result) {
    case kOutOfMemory:
      return {DeviceFailure::kOutOfMemory, "free device memory, or lower the batch or the lengths"};
    case kNoDevice:
      return {DeviceFailure::kNoDevice, "no GPU is visible: check CUDA_VISIBLE_DEVICES, or use the cpu backend"};
    case kStubLibrary:
      return {DeviceFailure::kNoDriver, "this is the toolkit's stub: install NVIDIA's driver, or use the cpu backend"};
    case kDriverMismatch:
      return {DeviceFailure::kOther, "the driver was updated under a running system: restart the machine"};
    case kInvalidImage:
    case kNoBinaryForGpu:
    case kInvalidPtx:
      return {DeviceFailure::kBadImage, "the machine code is not for this GPU: compile it again here"};
    case kUnsupportedPtxVersion:
      return {DeviceFailure::kDriverTooOld, "the driver is older than the compiler: update it, or use an older NVRTC"};
    case kLaunchOutOfResources:
      return {DeviceFailure::kLaunch, "the plan asks for more than this GPU has: choose a smaller one"};
    default:
      if (is_kernel_fault(result)) {
        return {DeviceFailure::kLaunch, "a kernel failed and took its context along: start the process again"};
      }
      return {DeviceFailure::kOther, "`harrier doctor` shows what was found"};
  }
}

}  // namespace

std::string print_result(const Driver& driver, Result result) {
  const char* name = nullptr;
  const char* text = nullptr;
  driver.error_name(result, &name);
  driver.error_string(result, &text);
  return fmt::format("{} ({})", name != nullptr ? name : fmt::format("error {}", result).c_str(),
                     text != nullptr ? text : "unknown");
}

void check(const Driver& driver, Result result, const std::string& what) {
  if (result == kSuccess) return;
  const Advice advice = advice_for(result);
  throw DeviceError(advice.failure, fmt::format("{}: {}: {}", what, print_result(driver, result), advice.remedy));
}

std::shared_ptr<const Driver> load_driver(const std::string& path) {
  const char* wanted = std::getenv("HARRIER_LIBCUDA");
  auto driver = std::make_shared<Driver>();
  driver->path = !path.empty() ? path : wanted != nullptr && *wanted != '\0' ? wanted : "libcuda.so.1";
  void* library = dlopen(driver->path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw DeviceError(DeviceFailure::kNoDriver,
                      fmt::format("no CUDA driver: {}: install NVIDIA's driver, or use the cpu backend", dlerror()));
  }
#define HARRIER_FIND(member, symbol, parameters) find(library, driver->path, symbol, driver->member);
  HARRIER_DRIVER_FUNCTIONS(HARRIER_FIND)
#undef HARRIER_FIND
  check(*driver, driver->init(0), "the CUDA driver does not start");
  check(*driver, driver->driver_version(&driver->version), "the driver's version");
  if (driver->version < kOldestDriver) {
    throw DeviceError(DeviceFailure::kDriverTooOld,
                      fmt::format("the driver is for CUDA {}, needed is {}: update it", version_text(driver->version),
                                  version_text(kOldestDriver)));
  }
  int count = 0;
  check(*driver, driver->device_count(&count), "the number of GPUs");
  if (count == 0) check(*driver, kNoDevice, "the driver runs, but has no GPU");
  return driver;
}

}  // namespace harrier::cuda
