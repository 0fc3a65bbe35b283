// libcuda, opened at run time. Declared here so that nothing needs CUDA's headers; the driver's ABI is stable.
#pragma once

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"

enum {
  kOldestDriver = 12000,  // tensor maps came with CUDA 12.0

  kCudaSuccess = 0,
  kCudaInvalidValue = 1,
  kCudaOutOfMemory = 2,
  kCudaNoDevice = 100,
  kCudaInvalidImage = 200,
  kCudaNoBinaryForGpu = 209,
  kCudaInvalidPtx = 218,
  kCudaUnsupportedPtxVersion = 222,
  kCudaNotFound = 500,
  kCudaLaunchOutOfResources = 701,

  kMultiprocessorCount = 16,
  kL2CacheBytes = 38,
  kCapabilityMajor = 75,
  kCapabilityMinor = 76,
  kMaxDynamicSharedBytes = 8,  // of a function
  kPointerMemoryType = 2,
  kPointerDeviceOrdinal = 9,
  kMemoryTypeDevice = 2,
  kTensorMapFloat16 = 6,
  kTensorMapBFloat16 = 9,
  kTensorMapSwizzle64 = 2,
  kTensorMapSwizzle128 = 3,
  kTensorMapPromote256 = 3
};

// Every driver function that is called: member, symbol, parameters. All return a CUresult.
#define DRIVER_FUNCTIONS(X)                                                                                       \
  X(init, "cuInit", (unsigned flags))                                                                             \
  X(driver_version, "cuDriverGetVersion", (int* version))                                                         \
  X(device_count, "cuDeviceGetCount", (int* count))                                                               \
  X(device_get, "cuDeviceGet", (int* device, int ordinal))                                                        \
  X(device_name, "cuDeviceGetName", (char* name, int size, int device))                                           \
  X(device_attribute, "cuDeviceGetAttribute", (int* value, int attribute, int device))                            \
  X(context_retain, "cuDevicePrimaryCtxRetain", (void** context, int device))                                     \
  X(context_release, "cuDevicePrimaryCtxRelease_v2", (int device))                                                \
  X(context_push, "cuCtxPushCurrent_v2", (void* context))                                                         \
  X(context_pop, "cuCtxPopCurrent_v2", (void** context))                                                          \
  X(context_current, "cuCtxGetCurrent", (void** context))                                                         \
  X(module_load, "cuModuleLoadDataEx",                                                                            \
    (void** module, const void* image, unsigned count, int* options, void** values))                              \
  X(module_unload, "cuModuleUnload", (void* module))                                                              \
  X(module_function, "cuModuleGetFunction", (void** function, void* module, const char* name))                    \
  X(function_set, "cuFuncSetAttribute", (void* function, int attribute, int value))                               \
  X(occupancy, "cuOccupancyMaxActiveBlocksPerMultiprocessor",                                                     \
    (int* blocks, void* function, int threads, size_t shared_bytes))                                              \
  X(fill_bytes, "cuMemsetD8Async", (uint64_t to, unsigned char value, size_t count, void* stream))                \
  X(launch, "cuLaunchKernel",                                                                                     \
    (void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,       \
     unsigned block_z, unsigned shared_bytes, void* stream, void** parameters, void** extra))                     \
  X(pointer_attribute, "cuPointerGetAttribute", (void* value, int attribute, uint64_t pointer))                   \
  X(tensor_map_encode, "cuTensorMapEncodeTiled",                                                                  \
    (void* map, int type, unsigned rank, void* address, const uint64_t* dimensions, const uint64_t* strides,      \
     const uint32_t* box, const uint32_t* element_strides, int interleave, int swizzle, int promotion, int fill)) \
  X(error_name, "cuGetErrorName", (int result, const char** name))                                                \
  X(error_string, "cuGetErrorString", (int result, const char** text))

typedef struct Driver {
#define DECLARE(member, symbol, parameters) int(*member) parameters;
  DRIVER_FUNCTIONS(DECLARE)
#undef DECLARE
} Driver;

// Whether the result says that the machine code is at fault, not the GPU.
static int is_of_image(int result) {
  return result == kCudaInvalidValue || result == kCudaInvalidImage || result == kCudaNoBinaryForGpu ||
         result == kCudaInvalidPtx || result == kCudaUnsupportedPtxVersion || result == kCudaNotFound;
}

static const char* name_of_result(const Driver* driver, int result) {
  const char* name = NULL;
  driver->error_name(result, &name);
  return name != NULL ? name : "an unknown error";
}

// Success, or an error that says what failed, the driver's word for it and what to do.
static int check(const Driver* driver, int result, const char* what, harrier_kernels_error* error) {
  if (result == kCudaSuccess) return harrier_kernels_success;
  const char* text = NULL;
  driver->error_string(result, &text);
  int code = harrier_kernels_driver_failed;
  const char* remedy = "nvidia-smi shows whether the GPU still answers";
  if (result == kCudaOutOfMemory) {
    code = harrier_kernels_out_of_memory;
    remedy = "free device memory, or lower the batch or the lengths";
  } else if (result == kCudaNoDevice) {
    code = harrier_kernels_no_device;
    remedy = "no GPU is visible, check CUDA_VISIBLE_DEVICES";
  } else if (result == kCudaLaunchOutOfResources) {
    code = harrier_kernels_launch_failed;
    remedy = "export a plan that asks for less of this GPU";
  }
  return fail(error, code, "%s: %s (%s): %s", what, name_of_result(driver, result), text != NULL ? text : "unknown",
              remedy);
}

static int find_symbol(void* library, const char* path, const char* symbol, void* function,
                       harrier_kernels_error* error) {
  void* found = dlsym(library, symbol);
  if (found == NULL) {
    return fail(error, harrier_kernels_driver_too_old, "%s has no %s: install a driver for CUDA %d.%d or newer", path,
                symbol, kOldestDriver / 1000, kOldestDriver % 1000 / 10);
  }
  // A pointer to a function has the size of one to data where there is dlsym; C has no cast between them.
  memcpy(function, &found, sizeof found);
  return harrier_kernels_success;
}

static int open_driver(Driver* driver, harrier_kernels_error* error) {
  const char* wanted = getenv("HARRIER_LIBCUDA");
  const char* path = wanted != NULL && *wanted != '\0' ? wanted : "libcuda.so.1";
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    return fail(error, harrier_kernels_no_driver, "no CUDA driver: %.160s: install NVIDIA's driver", dlerror());
  }
  int code = 0;
#define FIND(member, symbol, parameters) \
  if (code == 0) code = find_symbol(library, path, symbol, &driver->member, error);
  DRIVER_FUNCTIONS(FIND)
#undef FIND
  int version = 0;
  if (code == 0) code = check(driver, driver->init(0), "the CUDA driver does not start", error);
  if (code == 0) code = check(driver, driver->driver_version(&version), "the driver's version", error);
  if (code == 0 && version < kOldestDriver) {
    code = fail(error, harrier_kernels_driver_too_old, "the driver is for CUDA %d.%d, needed is %d.%d: update it",
                version / 1000, version % 1000 / 10, kOldestDriver / 1000, kOldestDriver % 1000 / 10);
  }
  return code;
}
