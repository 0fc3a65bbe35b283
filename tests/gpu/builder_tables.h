// For tests: block tables on the device, in the forms that the list builder reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "codegen/cuda/kernels/build_params.cuh"
#include "compiler/bind.h"
#include "runtime/cuda/memory.h"
#include "test_gpu.h"

namespace harrier::test {

/// Device copies that live as long as this.
class Memory {
 public:
  const void* add(const void* data, int64_t bytes) {
    if (bytes <= 0) return nullptr;
    copies_.push_back(
        cuda::copy_to_device(gpu().device, std::span(static_cast<const std::byte*>(data), static_cast<size_t>(bytes))));
    return reinterpret_cast<const void*>(copies_.back().pointer());
  }
  template <typename T>
  const T* add(const std::vector<T>& values) {
    return static_cast<const T*>(add(values.data(), std::ssize(values) * static_cast<int64_t>(sizeof(T))));
  }
  template <typename T>
  T* make(int64_t count, int fill) {
    const std::vector<std::byte> bytes(static_cast<size_t>(count) * sizeof(T), static_cast<std::byte>(fill));
    return const_cast<T*>(static_cast<const T*>(static_cast<const void*>(add(bytes))));
  }

 private:
  std::vector<cuda::DeviceMemory> copies_;
};

/// Back to the host.
template <typename T>
std::vector<T> fetch(const T* data, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  if (count > 0) {
    cuda::copy_to_host(*gpu().device, std::as_writable_bytes(std::span(values)),
                       reinterpret_cast<cuda::DevicePointer>(data));
  }
  return values;
}

/// Lists as binding prepares them.
BlockTable canonical_table(const BlockLists& lists, bool counted, Memory& memory);

/// The (first) table of a mask as the user bound it, where its element type is one that kernels read.
std::optional<BlockTable> raw_table(const Mask& mask, const Bindings& bindings, Memory& memory);

}  // namespace harrier::test
