// Devices, contexts, errors.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

#include "fibers.h"
#include "settings.h"
#include "state.h"

using namespace harrier::emulated;

namespace {

constexpr int kMaxDevices = 16;

bool initialised = false;
std::array<CUctx_st, kMaxDevices> contexts;
std::mutex contexts_mutex;
thread_local std::vector<CUcontext> stack;

struct ErrorText {
  CUresult error;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for the device"},
    {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the PTX is too new for the driver"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources for launch"},
    {CUDA_ERROR_LAUNCH_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {CUDA_ERROR_MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
};

/// Shared memory of a CTA that asks for it, and of a multiprocessor, in KiB.
struct SharedKib {
  int cta;
  int multiprocessor;
};

SharedKib shared_kib() {
  const Capability device = capability();
  if (device.major == 8 && device.minor == 0) return {163, 164};
  if (device.major == 8 && device.minor != 7) return {99, 100};
  if (device.major == 7) return {64, 64};
  if (device.major == 12) return {99, 100};
  return {227, 228};
}

/// By the numbers of CUdevice_attribute.
int attribute_value(int attribute) {
  const Capability device = capability();
  const bool small = device.major == 12 || (device.major == 8 && device.minor != 0);
  switch (attribute) {
    case 1:  // threads of a CTA; the same along x and y
    case 2:
    case 3:
      return 1024;
    case 4:
      return 64;
    case 5:
      return 0x7fffffff;  // grid
    case 6:
    case 7:
      return 65535;
    case 8:
      return 48 * 1024;  // shared memory of a CTA that does not ask for more
    case 9:
      return 64 * 1024;  // constant memory
    case 10:
      return 32;  // warp
    case 12:      // registers of a CTA, of a multiprocessor
    case 82:
      return 65536;
    case 13:
      return 1980000;  // clock in kHz
    case 16:
      return multiprocessors();
    case 31:  // concurrent kernels, unified addresses, managed memory, memory pools
    case 41:
    case 83:
    case 115:
      return 1;
    case 33:
      return 1;  // PCI bus
    case 36:
      return 2619000;  // memory clock in kHz
    case 37:
      return 5120;  // bits of the memory bus
    case 38:
      return 50 << 20;  // L2
    case 39:
      return small ? 1536 : 2048;  // threads of a multiprocessor
    case 40:
      return 3;  // copy engines
    case 75:
      return device.major;
    case 76:
      return device.minor;
    case 81:
      return shared_kib().multiprocessor * 1024;
    case 95:
      return 1;  // cooperative launches
    case 97:
      return shared_kib().cta * 1024;
    case 106:
      return small ? 16 : 32;  // CTAs of a multiprocessor
    case 111:
      return 1024;  // reserved shared memory of a CTA
    case 127:
      return device.major >= 9 ? 1 : 0;  // tensor maps
    default:
      return 0;
  }
}

bool exists(CUdevice device) { return device >= 0 && device < std::min(device_count(), kMaxDevices); }

}  // namespace

namespace harrier::emulated {

CUcontext current_context() { return stack.empty() ? nullptr : stack.back(); }

int device_attribute(int attribute) {
  int value = 0;
  cuDeviceGetAttribute(&value, attribute, current_context()->device);
  return value;
}

CUresult enter(const char* function, Needs needs) {
  if (const int injected = injected_failure(function); injected != 0) return injected;
  if (needs == Needs::kNothing) return CUDA_SUCCESS;
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (needs == Needs::kInitialised) return CUDA_SUCCESS;
  if (current_context() == nullptr || current_context()->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
  return current_context()->sticky;
}

}  // namespace harrier::emulated

HARRIER_EXPORT CUresult cuInit(unsigned flags) {
  HARRIER_ENTER(Needs::kNothing);
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (device_count() <= 0) return CUDA_ERROR_NO_DEVICE;
  initialised = true;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDriverGetVersion(int* version) {
  HARRIER_ENTER(Needs::kNothing);
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = driver_version();
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDeviceGetCount(int* count) {
  HARRIER_ENTER(Needs::kInitialised);
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *count = std::min(device_count(), kMaxDevices);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  HARRIER_ENTER(Needs::kInitialised);
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!exists(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  HARRIER_ENTER(Needs::kInitialised);
  if (name == nullptr || length <= 0) return CUDA_ERROR_INVALID_VALUE;
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  const std::string text = fmt::format("Emulated GPU sm_{}{}", capability().major, capability().minor);
  std::strncpy(name, text.c_str(), static_cast<std::size_t>(length));
  name[length - 1] = '\0';
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  HARRIER_ENTER(Needs::kInitialised);
  if (uuid == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  std::memcpy(uuid->bytes, "emulated device", 15);
  uuid->bytes[15] = static_cast<char>(device);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

HARRIER_EXPORT CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  HARRIER_ENTER(Needs::kInitialised);
  if (value == nullptr || attribute <= 0 || attribute > 160) return CUDA_ERROR_INVALID_VALUE;
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  *value = attribute_value(attribute);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
  HARRIER_ENTER(Needs::kInitialised);
  if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = kTotalBytes;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
  HARRIER_ENTER(Needs::kInitialised);
  if (id == nullptr || length < 13) return CUDA_ERROR_INVALID_VALUE;
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  const std::string text = fmt::format("0000:{:02X}:00.0", device + 1);
  std::memcpy(id, text.c_str(), text.size() + 1);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  HARRIER_ENTER(Needs::kInitialised);
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  const std::lock_guard lock(contexts_mutex);
  contexts[device].device = device;
  ++contexts[device].retained;
  *context = &contexts[device];
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  HARRIER_ENTER(Needs::kInitialised);
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  const std::lock_guard lock(contexts_mutex);
  if (contexts[device].retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (--contexts[device].retained == 0) contexts[device].sticky = CUDA_SUCCESS;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  HARRIER_ENTER(Needs::kInitialised);
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  contexts[device].sticky = CUDA_SUCCESS;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuCtxGetCurrent(CUcontext* context) {
  HARRIER_ENTER(Needs::kInitialised);
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *context = current_context();
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
  HARRIER_ENTER(Needs::kInitialised);
  if (!stack.empty()) stack.pop_back();
  if (context != nullptr) stack.push_back(context);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) {
  HARRIER_ENTER(Needs::kInitialised);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  stack.push_back(context);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  HARRIER_ENTER(Needs::kInitialised);
  if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context != nullptr) *context = stack.back();
  stack.pop_back();
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuCtxGetDevice(CUdevice* device) {
  HARRIER_ENTER(Needs::kContext);
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = current_context()->device;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuCtxSynchronize() {
  HARRIER_ENTER(Needs::kContext);
  return refuse_in_capture();
}

HARRIER_EXPORT CUresult cuGetErrorName(CUresult error, const char** name) {
  for (const ErrorText& entry : kErrors) {
    if (entry.error != error) continue;
    *name = entry.name;
    return CUDA_SUCCESS;
  }
  *name = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}

HARRIER_EXPORT CUresult cuGetErrorString(CUresult error, const char** text) {
  for (const ErrorText& entry : kErrors) {
    if (entry.error != error) continue;
    *text = entry.text;
    return CUDA_SUCCESS;
  }
  *text = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}
