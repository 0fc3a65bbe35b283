// libcuda, found at run time: no link-time dependency, and a machine without a GPU is a clean answer.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "runtime/cuda/driver_types.h"

namespace harrier::cuda {

/// Every driver function that we call: member name, symbol, parameters. All return a Result.
#define HARRIER_DRIVER_FUNCTIONS(X)                                                                                    \
  X(init, "cuInit", (unsigned flags))                                                                                  \
  X(driver_version, "cuDriverGetVersion", (int* version))                                                              \
  X(device_count, "cuDeviceGetCount", (int* count))                                                                    \
  X(device_get, "cuDeviceGet", (Device * device, int ordinal))                                                         \
  X(device_name, "cuDeviceGetName", (char* name, int size, Device device))                                             \
  X(device_attribute, "cuDeviceGetAttribute", (int* value, int attribute, Device device))                              \
  X(device_memory, "cuDeviceTotalMem_v2", (size_t* bytes, Device device))                                              \
  X(device_pci, "cuDeviceGetPCIBusId", (char* id, int size, Device device))                                            \
  X(context_retain, "cuDevicePrimaryCtxRetain", (Context * context, Device device))                                    \
  X(context_release, "cuDevicePrimaryCtxRelease_v2", (Device device))                                                  \
  X(context_push, "cuCtxPushCurrent_v2", (Context context))                                                            \
  X(context_pop, "cuCtxPopCurrent_v2", (Context * context))                                                            \
  X(context_current, "cuCtxGetCurrent", (Context * context))                                                           \
  X(module_load, "cuModuleLoadDataEx",                                                                                 \
    (Module * module, const void* image, unsigned count, int* options, void** values))                                 \
  X(module_unload, "cuModuleUnload", (Module module))                                                                  \
  X(module_function, "cuModuleGetFunction", (Function * function, Module module, const char* name))                    \
  X(function_set, "cuFuncSetAttribute", (Function function, int attribute, int value))                                 \
  X(occupancy, "cuOccupancyMaxActiveBlocksPerMultiprocessor",                                                          \
    (int* blocks, Function function, int block_threads, size_t shared_bytes))                                          \
  X(memory_allocate, "cuMemAlloc_v2", (DevicePointer * pointer, size_t bytes))                                         \
  X(memory_free, "cuMemFree_v2", (DevicePointer pointer))                                                              \
  X(memory_info, "cuMemGetInfo_v2", (size_t* free_bytes, size_t* total_bytes))                                         \
  X(copy_to_device, "cuMemcpyHtoD_v2", (DevicePointer to, const void* from, size_t bytes))                             \
  X(copy_to_host, "cuMemcpyDtoH_v2", (void* to, DevicePointer from, size_t bytes))                                     \
  X(fill_bytes, "cuMemsetD8Async", (DevicePointer to, unsigned char value, size_t count, Stream stream))               \
  X(launch, "cuLaunchKernel",                                                                                          \
    (Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,         \
     unsigned block_z, unsigned shared_bytes, Stream stream, void** parameters, void** extra))                         \
  X(stream_create, "cuStreamCreate", (Stream * stream, unsigned flags))                                                \
  X(stream_destroy, "cuStreamDestroy_v2", (Stream stream))                                                             \
  X(stream_synchronize, "cuStreamSynchronize", (Stream stream))                                                        \
  X(stream_begin_capture, "cuStreamBeginCapture_v2", (Stream stream, int mode))                                        \
  X(stream_end_capture, "cuStreamEndCapture", (Stream stream, Graph * graph))                                          \
  X(graph_instantiate, "cuGraphInstantiateWithFlags", (GraphExec * exec, Graph graph, unsigned long long flags))       \
  X(graph_launch, "cuGraphLaunch", (GraphExec exec, Stream stream))                                                    \
  X(graph_exec_destroy, "cuGraphExecDestroy", (GraphExec exec))                                                        \
  X(graph_destroy, "cuGraphDestroy", (Graph graph))                                                                    \
  X(event_create, "cuEventCreate", (Event * event, unsigned flags))                                                    \
  X(event_record, "cuEventRecord", (Event event, Stream stream))                                                       \
  X(event_elapsed, "cuEventElapsedTime", (float* milliseconds, Event start, Event end))                                \
  X(event_destroy, "cuEventDestroy_v2", (Event event))                                                                 \
  X(pointer_attribute, "cuPointerGetAttribute", (void* value, int attribute, DevicePointer pointer))                   \
  X(tensor_map_encode, "cuTensorMapEncodeTiled",                                                                       \
    (TensorMapBytes * map, int type, unsigned rank, void* address, const uint64_t* dimensions,                         \
     const uint64_t* strides_bytes, const uint32_t* box, const uint32_t* element_strides, int interleave, int swizzle, \
     int promotion, int fill))                                                                                         \
  X(error_name, "cuGetErrorName", (Result result, const char** name))                                                  \
  X(error_string, "cuGetErrorString", (Result result, const char** text))

struct Driver {
// Parentheses would make `member` and `parameters` no declarator. NOLINTNEXTLINE(bugprone-macro-parentheses)
#define HARRIER_DECLARE(member, symbol, parameters) Result(*member) parameters = nullptr;
  HARRIER_DRIVER_FUNCTIONS(HARRIER_DECLARE)
#undef HARRIER_DECLARE
  std::string path;  // the library as it was asked for
  int version = 0;   // 13000 = CUDA 13.0
};

/// Oldest driver that has all we call (tensor maps came with CUDA 12.0).
inline constexpr int kOldestDriver = 12000;

/// Loads and initialises the driver. `path` is tried alone when given; else $HARRIER_LIBCUDA, then libcuda.so.1. Throws
/// DeviceError: no library, a driver older than kOldestDriver, no GPU.
std::shared_ptr<const Driver> load_driver(const std::string& path = {});

/// Throws DeviceError for anything but success: "`what`: CUDA_ERROR_...: the driver's words; remedy".
void check(const Driver& driver, Result result, const std::string& what);

/// "CUDA_ERROR_OUT_OF_MEMORY (out of memory)"
std::string print_result(const Driver& driver, Result result);

}  // namespace harrier::cuda
