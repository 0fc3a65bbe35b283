// NumPy's .npy files, versions 1.0 to 3.0, little-endian and row-major: what NumPy itself writes for plain arrays.
//
// bfloat16 has no name in the format: ml_dtypes stores it as two opaque bytes ('<V2'), and so do we.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ir/geometry.h"

namespace harrier {

/// An array that owns its bytes.
struct NpyArray {
  ElementType type = ElementType::kFloat32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
  bool operator==(const NpyArray&) const = default;

  /// Points into this array, which must outlive it.
  ArrayView view() const { return {.data = bytes.data(), .type = type, .shape = shape}; }
};

/// Reads a file. Sizes are checked against the file's before anything is allocated. Throws InvalidInput: file, value,
/// limit, remedy, on one line.
NpyArray read_npy(const std::string& path);

/// The same for a file in memory; `name` stands for the path in messages.
NpyArray read_npy_bytes(std::span<const std::byte> file, const std::string& name);

/// What comes before the elements: magic, version, and the header padded to a multiple of 64 bytes.
std::string npy_header(ElementType type, const std::vector<int64_t>& shape);

/// Writes whole files only: the path shows either what it held before or the complete array.
void write_npy(const std::string& path, const ArrayView& array);

}  // namespace harrier
