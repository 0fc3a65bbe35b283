// Any bytes either are refused with InvalidInput or are an array that encodes to the same array again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "cli/npy.h"
#include "ir/error.h"

// libFuzzer gives the name.
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  harrier::NpyArray array;
  try {
    array = harrier::read_npy_bytes(file, "input.npy");
  } catch (const harrier::InvalidInput& error) {
    if (std::strchr(error.what(), '\n') != nullptr) std::abort();  // Messages are one line, whatever the file says.
    return 0;
  }
  const std::string header = harrier::npy_header(array.type, array.shape);
  std::vector<std::byte> encoded(header.size() + array.bytes.size());
  std::memcpy(encoded.data(), header.data(), header.size());
  if (!array.bytes.empty()) std::memcpy(encoded.data() + header.size(), array.bytes.data(), array.bytes.size());
  if (harrier::read_npy_bytes(encoded, "encoded.npy") != array) std::abort();
  return 0;
}
