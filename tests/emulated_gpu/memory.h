// "Device" memory: host memory that knows its bounds.
#pragma once

#include <cstddef>
#include <optional>

namespace harrier::emulated {

/// An allocation that `pointer` lies in.
struct Allocation {
  unsigned char* begin;
  std::size_t bytes;
  int device;
  bool host;  // pinned host memory
};

std::optional<Allocation> allocation_at(const void* pointer);

/// Whether all the bytes lie in one allocation.
bool is_device_memory(const void* pointer, std::size_t bytes);

}  // namespace harrier::emulated
