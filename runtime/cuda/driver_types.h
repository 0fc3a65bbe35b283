// The CUDA driver API's types and constants, as far as we call it. Declared here so that nothing needs CUDA's headers;
// the driver's ABI is stable, and names with _v2 are asked for by that name.
#pragma once

#include <cstddef>
#include <cstdint>

namespace harrier::cuda {

using Result = int;
using Device = int;
using DevicePointer = uint64_t;
using Context = struct ContextHandle*;
using Module = struct ModuleHandle*;
using Function = struct FunctionHandle*;
using Stream = struct StreamHandle*;
using Event = struct EventHandle*;
using Graph = struct GraphHandle*;
using GraphExec = struct GraphExecHandle*;

/// CUtensorMap: 128 opaque bytes.
struct alignas(64) TensorMapBytes {
  uint64_t words[16];
};

struct Uuid {
  char bytes[16];
};

inline constexpr Result kSuccess = 0;
inline constexpr Result kInvalidValue = 1;
inline constexpr Result kOutOfMemory = 2;
inline constexpr Result kStubLibrary = 34;  // the toolkit's libcuda.so, which programs link with and cannot run on
inline constexpr Result kNoDevice = 100;
inline constexpr Result kInvalidImage = 200;
inline constexpr Result kNoBinaryForGpu = 209;
inline constexpr Result kInvalidPtx = 218;
inline constexpr Result kUnsupportedPtxVersion = 222;
inline constexpr Result kNotFound = 500;
inline constexpr Result kIllegalAddress = 700;
inline constexpr Result kLaunchOutOfResources = 701;
inline constexpr Result kLaunchTimeout = 702;
inline constexpr Result kHardwareStackError = 714;  // this and the ones up to kLaunchFailed: a kernel's faults
inline constexpr Result kLaunchFailed = 719;
inline constexpr Result kDriverMismatch = 803;

// CUdevice_attribute
inline constexpr int kMultiprocessorCount = 16;
inline constexpr int kMaxSharedBytesPerBlock = 97;  // with opt-in
inline constexpr int kMemoryClockRate = 36;
inline constexpr int kMemoryBusWidth = 37;
inline constexpr int kL2CacheBytes = 38;
inline constexpr int kCapabilityMajor = 75;
inline constexpr int kCapabilityMinor = 76;
inline constexpr int kSharedBytesPerMultiprocessor = 81;
inline constexpr int kRegistersPerMultiprocessor = 82;

// CUfunction_attribute
inline constexpr int kFunctionMaxDynamicSharedBytes = 8;

// CUpointer_attribute
inline constexpr int kPointerMemoryType = 2;
inline constexpr int kPointerDeviceOrdinal = 9;
inline constexpr unsigned kMemoryTypeDevice = 2;

// cuTensorMapEncodeTiled
inline constexpr int kTensorMapFloat16 = 6;
inline constexpr int kTensorMapBFloat16 = 9;
inline constexpr int kTensorMapSwizzle64 = 2;
inline constexpr int kTensorMapSwizzle128 = 3;
inline constexpr int kTensorMapPromote256 = 3;

}  // namespace harrier::cuda
