// Device memory and copies. Allocations lie between guard bytes, which freeing checks, and begin as NaN.
#include "memory.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "state.h"

namespace harrier::emulated {
namespace {

constexpr std::size_t kGuardBytes = 512;  // keeps the alignment that cuMemAlloc promises
constexpr unsigned char kGuard = 0xa5;

std::mutex mutex;
std::map<const unsigned char*, Allocation> allocations;
std::size_t used = 0;

unsigned char* allocate(std::size_t bytes, int device, bool host) {
  const std::size_t padded = (bytes + kGuardBytes - 1) / kGuardBytes * kGuardBytes;
  const std::lock_guard lock(mutex);
  if (used + padded > kTotalBytes) return nullptr;
  auto* block = static_cast<unsigned char*>(std::aligned_alloc(kGuardBytes, padded + 2 * kGuardBytes));
  if (block == nullptr) return nullptr;
  std::memset(block, kGuard, padded + 2 * kGuardBytes);
  std::memset(block + kGuardBytes, 0xff, bytes);
  used += padded;
  allocations[block + kGuardBytes] = {block + kGuardBytes, bytes, device, host};
  return block + kGuardBytes;
}

/// False when nothing was allocated there.
bool release(unsigned char* pointer, bool host) {
  const std::lock_guard lock(mutex);
  const auto found = allocations.find(pointer);
  if (found == allocations.end() || found->second.host != host) return false;
  const std::size_t bytes = found->second.bytes;
  const std::size_t padded = (bytes + kGuardBytes - 1) / kGuardBytes * kGuardBytes;
  for (std::size_t i = 0; i < kGuardBytes; ++i) {
    // The rest of the last block and the guard behind it are one stretch.
    if (pointer[-1 - static_cast<std::ptrdiff_t>(i)] == kGuard && pointer[padded + i] == kGuard &&
        (bytes + i >= padded || pointer[bytes + i] == kGuard)) {
      continue;
    }
    fmt::print(stderr,
               "emulated GPU: something was written within {} bytes of the bounds of an allocation of {} bytes\n",
               kGuardBytes, bytes);
    std::abort();
  }
  allocations.erase(found);
  used -= padded;
  std::free(pointer - kGuardBytes);
  return true;
}

void* host(CUdeviceptr pointer) { return reinterpret_cast<void*>(pointer); }

}  // namespace

std::optional<Allocation> allocation_at(const void* pointer) {
  const auto* byte = static_cast<const unsigned char*>(pointer);
  const std::lock_guard lock(mutex);
  auto after = allocations.upper_bound(byte);
  if (after == allocations.begin()) return std::nullopt;
  const Allocation& allocation = std::prev(after)->second;
  if (byte >= allocation.begin + std::max<std::size_t>(allocation.bytes, 1)) return std::nullopt;
  return allocation;
}

bool is_device_memory(const void* pointer, std::size_t bytes) {
  const auto allocation = allocation_at(pointer);
  if (!allocation) return false;
  return static_cast<const unsigned char*>(pointer) + bytes <= allocation->begin + allocation->bytes;
}

}  // namespace harrier::emulated

using namespace harrier::emulated;

HARRIER_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* pointer, std::size_t bytes) {
  HARRIER_ENTER(Needs::kContext);
  if (const CUresult refused = refuse_in_capture(); refused != CUDA_SUCCESS) return refused;
  if (pointer == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  unsigned char* memory = allocate(bytes, current_context()->device, false);
  if (memory == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  *pointer = reinterpret_cast<CUdeviceptr>(memory);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer) {
  HARRIER_ENTER(Needs::kContext);
  if (const CUresult refused = refuse_in_capture(); refused != CUDA_SUCCESS) return refused;
  if (pointer == 0) return CUDA_SUCCESS;
  return release(static_cast<unsigned char*>(host(pointer)), false) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

HARRIER_EXPORT CUresult cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  HARRIER_ENTER(Needs::kContext);
  if (free == nullptr || total == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(mutex);
  *free = kTotalBytes - used;
  *total = kTotalBytes;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  HARRIER_ENTER(Needs::kContext);
  if (const CUresult refused = refuse_in_capture(); refused != CUDA_SUCCESS) return refused;
  if (pointer == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  *pointer = allocate(bytes, current_context()->device, true);
  return *pointer == nullptr ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuMemFreeHost(void* pointer) {
  HARRIER_ENTER(Needs::kContext);
  return release(static_cast<unsigned char*>(pointer), true) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

HARRIER_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, std::size_t bytes) {
  HARRIER_ENTER(Needs::kContext);
  if (const CUresult refused = refuse_in_capture(); refused != CUDA_SUCCESS) return refused;
  if (bytes == 0) return CUDA_SUCCESS;
  if (from == nullptr || !is_device_memory(host(to), bytes)) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(host(to), from, bytes);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, std::size_t bytes) {
  HARRIER_ENTER(Needs::kContext);
  if (const CUresult refused = refuse_in_capture(); refused != CUDA_SUCCESS) return refused;
  if (bytes == 0) return CUDA_SUCCESS;
  if (to == nullptr || !is_device_memory(host(from), bytes)) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(to, host(from), bytes);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream) {
  HARRIER_ENTER(Needs::kContext);
  if (bytes == 0) return CUDA_SUCCESS;
  if (from == nullptr || !is_device_memory(host(to), bytes)) return CUDA_ERROR_INVALID_VALUE;
  return run_or_record(stream, [=] {
    std::memcpy(host(to), from, bytes);
    return CUDA_SUCCESS;
  });
}

HARRIER_EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
  HARRIER_ENTER(Needs::kContext);
  if (bytes == 0) return CUDA_SUCCESS;
  if (to == nullptr || !is_device_memory(host(from), bytes)) return CUDA_ERROR_INVALID_VALUE;
  return run_or_record(stream, [=] {
    std::memcpy(to, host(from), bytes);
    return CUDA_SUCCESS;
  });
}

HARRIER_EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
  HARRIER_ENTER(Needs::kContext);
  if (bytes == 0) return CUDA_SUCCESS;
  if (!is_device_memory(host(to), bytes) || !is_device_memory(host(from), bytes)) return CUDA_ERROR_INVALID_VALUE;
  return run_or_record(stream, [=] {
    std::memmove(host(to), host(from), bytes);
    return CUDA_SUCCESS;
  });
}

HARRIER_EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t count, CUstream stream) {
  HARRIER_ENTER(Needs::kContext);
  if (count == 0) return CUDA_SUCCESS;
  if (!is_device_memory(host(to), count)) return CUDA_ERROR_INVALID_VALUE;
  return run_or_record(stream, [=] {
    std::memset(host(to), value, count);
    return CUDA_SUCCESS;
  });
}

HARRIER_EXPORT CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, std::size_t count, CUstream stream) {
  HARRIER_ENTER(Needs::kContext);
  if (count == 0) return CUDA_SUCCESS;
  if (to % 4 != 0 || !is_device_memory(host(to), 4 * count)) return CUDA_ERROR_INVALID_VALUE;
  return run_or_record(stream, [=] {
    for (std::size_t i = 0; i < count; ++i) std::memcpy(host(to + 4 * i), &value, 4);
    return CUDA_SUCCESS;
  });
}

HARRIER_EXPORT CUresult cuPointerGetAttribute(void* value, int attribute, CUdeviceptr pointer) {
  HARRIER_ENTER(Needs::kContext);
  const auto allocation = allocation_at(host(pointer));
  if (value == nullptr || !allocation) return CUDA_ERROR_INVALID_VALUE;
  const auto put = [&]<typename T>(T what) { *static_cast<T*>(value) = what; };
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      put(current_context());
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      put(allocation->host ? 1u : 2u);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      put(pointer);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!allocation->host) return CUDA_ERROR_INVALID_VALUE;
      put(pointer);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      put(0u);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      put(allocation->device);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      put(allocation->begin);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      put(allocation->bytes);
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

/// Unlike the function for one attribute, this one answers with zeros for what the driver does not know.
HARRIER_EXPORT CUresult cuPointerGetAttributes(unsigned count, int* attributes, void** values, CUdeviceptr pointer) {
  HARRIER_ENTER(Needs::kContext);
  if (attributes == nullptr || values == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count; ++i) {
    if (cuPointerGetAttribute(values[i], attributes[i], pointer) == CUDA_SUCCESS) continue;
    const bool wide = attributes[i] != CU_POINTER_ATTRIBUTE_MEMORY_TYPE &&
                      attributes[i] != CU_POINTER_ATTRIBUTE_IS_MANAGED &&
                      attributes[i] != CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
    const int nothing = attributes[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL ? -2 : 0;
    if (wide) std::memset(values[i], 0, 8);
    if (!wide) std::memcpy(values[i], &nothing, 4);
  }
  return CUDA_SUCCESS;
}
