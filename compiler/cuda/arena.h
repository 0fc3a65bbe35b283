// Places in one allocation on the device.
#pragma once

#include <cstdint>

#include "ir/ceil_div.h"
#include "runtime/cuda/memory.h"

namespace harrier {

class Arena {
 public:
  /// Where so many bytes lie from the start of the allocation.
  int64_t add(int64_t bytes) {
    constexpr int64_t kAlignment = 256;
    const int64_t offset = ceil_div(bytes_, kAlignment) * kAlignment;
    bytes_ = offset + bytes;
    return offset;
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

template <typename T>
T* at(const cuda::DeviceMemory& memory, int64_t offset) {
  return reinterpret_cast<T*>(memory.pointer() + static_cast<uint64_t>(offset));
}

}  // namespace harrier
