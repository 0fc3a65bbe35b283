#include "runtime/cuda/device.h"

#include <fmt/format.h>

#include <array>

#include "ir/error.h"

namespace harrier::cuda {
namespace {

DeviceFacts facts_of(const Driver& driver, int ordinal) {
  Device device = 0;
  check(driver, driver.device_get(&device, ordinal), fmt::format("GPU {}", ordinal));
  const auto attribute = [&](int which) {
    int value = 0;
    check(driver, driver.device_attribute(&value, which, device),
          fmt::format("attribute {} of GPU {}", which, ordinal));
    return value;
  };
  std::array<char, 256> name{};
  check(driver, driver.device_name(name.data(), static_cast<int>(name.size()), device), "the GPU's name");
  std::array<char, 64> pci{};
  check(driver, driver.device_pci(pci.data(), static_cast<int>(pci.size()), device), "the GPU's bus");
  size_t bytes = 0;
  check(driver, driver.device_memory(&bytes, device), "the GPU's memory");
  return {.ordinal = ordinal,
          .name = name.data(),
          .pci_bus = pci.data(),
          .capability_major = attribute(kCapabilityMajor),
          .capability_minor = attribute(kCapabilityMinor),
          .multiprocessors = attribute(kMultiprocessorCount),
          .l2_bytes = attribute(kL2CacheBytes),
          .shared_bytes_per_multiprocessor = attribute(kSharedBytesPerMultiprocessor),
          .shared_bytes_per_block = attribute(kMaxSharedBytesPerBlock),
          .registers_per_multiprocessor = attribute(kRegistersPerMultiprocessor),
          .memory_bus_bits = attribute(kMemoryBusWidth),
          .memory_clock_khz = attribute(kMemoryClockRate),
          .memory_bytes = static_cast<int64_t>(bytes)};
}

}  // namespace

std::vector<DeviceFacts> find_devices(const Driver& driver) {
  int count = 0;
  check(driver, driver.device_count(&count), "the number of GPUs");
  std::vector<DeviceFacts> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) devices.push_back(facts_of(driver, ordinal));
  return devices;
}

std::string silicon_key(const DeviceFacts& facts) {
  constexpr int kClockClassKhz = 100000;
  return fmt::format("sm{}{}-{}sm-l2:{}-smem:{}-block:{}-regs:{}-bus:{}-memclock:{}", facts.capability_major,
                     facts.capability_minor, facts.multiprocessors, facts.l2_bytes,
                     facts.shared_bytes_per_multiprocessor, facts.shared_bytes_per_block,
                     facts.registers_per_multiprocessor, facts.memory_bus_bits,
                     (facts.memory_clock_khz + kClockClassKhz / 2) / kClockClassKhz);
}

std::string architecture_of(const DeviceFacts& facts) {
  const int capability = 10 * facts.capability_major + facts.capability_minor;
  if (capability == 90) return "sm_90a";
  if (capability < 80) {
    throw DeviceError(DeviceFailure::kUnsupported,
                      fmt::format("{} has compute capability {}.{}, the oldest supported is 8.0: use the cpu backend",
                                  facts.name, facts.capability_major, facts.capability_minor));
  }
  return fmt::format("sm_{}", capability);
}

OpenDevice::OpenDevice(std::shared_ptr<const Driver> driver, int ordinal) : driver_(std::move(driver)) {
  int count = 0;
  check(*driver_, driver_->device_count(&count), "the number of GPUs");
  if (ordinal < 0 || ordinal >= count) {
    throw DeviceError(DeviceFailure::kNoDevice,
                      fmt::format("there is no GPU {}: this process sees {}, numbered from 0", ordinal, count));
  }
  facts_ = facts_of(*driver_, ordinal);
  check(*driver_, driver_->device_get(&device_, ordinal), fmt::format("GPU {}", ordinal));
  check(*driver_, driver_->context_retain(&context_, device_), fmt::format("the context of GPU {}", ordinal));
}

OpenDevice::~OpenDevice() {
  if (context_ != nullptr) driver_->context_release(device_);
}

CurrentContext::CurrentContext(const OpenDevice& device) : device_(device) {
  check(device.driver(), enter(), "making the GPU current");
}

CurrentContext::CurrentContext(const OpenDevice& device, std::nothrow_t) noexcept : device_(device) { enter(); }

Result CurrentContext::enter() noexcept {
  Context current = nullptr;
  const Driver& driver = device_.driver();
  if (const Result result = driver.context_current(&current); result != kSuccess) return result;
  if (current != device_.context()) {
    if (const Result result = driver.context_push(device_.context()); result != kSuccess) return result;
    pushed_ = true;
  }
  current_ = true;
  return kSuccess;
}

CurrentContext::~CurrentContext() {
  Context popped = nullptr;
  if (pushed_) device_.driver().context_pop(&popped);
}

}  // namespace harrier::cuda
