#include "runtime/cuda/module.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "ir/error.h"

namespace harrier::cuda {
namespace {

/// The header of a 64-bit ELF file.
struct ElfHeader {
  std::array<char, 16> identity;
  uint16_t type;
  uint16_t machine;
  uint32_t version;
  uint64_t entry;
  uint64_t segments_at;
  uint64_t sections_at;
  uint32_t flags;
  uint16_t header_bytes;
  uint16_t segment_bytes;
  uint16_t segments;
  uint16_t section_bytes;
  uint16_t sections;
  uint16_t names;
};
static_assert(sizeof(ElfHeader) == 64);

/// The driver is told no size: it reads a cubin as far as its tables of segments and sections say, the first of which
/// NVRTC writes last, and PTX to its zero.
bool is_whole(std::span<const char> image) {
  constexpr std::string_view kElf("\177ELF");
  if (!std::string_view(image.data(), image.size()).starts_with(kElf)) {
    return std::ranges::find(image, '\0') != image.end();
  }
  ElfHeader header{};
  if (image.size() < sizeof header) return false;
  std::memcpy(&header, image.data(), sizeof header);
  const auto holds = [&](uint64_t table, uint64_t entries, uint64_t entry_bytes) {
    return table <= image.size() && entries * entry_bytes <= image.size() - table;
  };
  return holds(header.segments_at, header.segments, header.segment_bytes) &&
         holds(header.sections_at, header.sections, header.section_bytes);
}

/// Whether the result says that the code is at fault, not the device.
bool is_of_image(Result result) {
  return result == kInvalidValue || result == kInvalidImage || result == kNoBinaryForGpu || result == kInvalidPtx ||
         result == kNotFound;
}

}  // namespace

LoadedModule::LoadedModule(DeviceHandle device, std::span<const char> image) : device_(std::move(device)) {
  const std::string what = fmt::format("loading {} bytes of machine code on {}", image.size(), device_->facts().name);
  if (!is_whole(image)) {
    throw DeviceError(DeviceFailure::kBadImage, fmt::format("{}: it is cut short: compile it again", what));
  }
  const CurrentContext current(*device_);
  const Driver& driver = device_->driver();
  const Result result = driver.module_load(&module_, image.data(), 0, nullptr, nullptr);
  if (result == kSuccess) return;
  if (!is_of_image(result)) check(driver, result, what);
  throw DeviceError(DeviceFailure::kBadImage,
                    fmt::format("{}: {}: compile it again for this GPU", what, print_result(driver, result)));
}

LoadedModule::~LoadedModule() {
  if (module_ == nullptr) return;
  const CurrentContext current(*device_, std::nothrow);
  if (current) device_->driver().module_unload(module_);
}

Function LoadedModule::function(const char* name, int64_t shared_bytes) const {
  constexpr int64_t kWithoutAsking = int64_t{48} * 1024;
  const CurrentContext current(*device_);
  const Driver& driver = device_->driver();
  Function function = nullptr;
  const Result found = driver.module_function(&function, module_, name);
  if (found != kSuccess) {
    if (!is_of_image(found)) check(driver, found, fmt::format("finding the entry {}", name));
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
  const Result result = device.driver().launch(function, shape.grid_x, shape.grid_y, shape.grid_z, shape.threads, 1, 1,
                                               static_cast<unsigned>(shape.shared_bytes), stream, parameters, nullptr);
  if (result == kSuccess) return;
  throw DeviceError(result == kOutOfMemory ? DeviceFailure::kOutOfMemory : DeviceFailure::kLaunch,
                    fmt::format("launching {} x {} CTAs of {} threads and {} bytes of shared memory: {}: an earlier "
                                "launch may have failed; `harrier doctor` shows whether the GPU still answers",
                                shape.grid_x, shape.grid_y, shape.threads, shape.shared_bytes,
                                print_result(device.driver(), result)));
}

}  // namespace harrier::cuda
