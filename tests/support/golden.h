// Reads the arrays of tests/data/goldens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ir/geometry.h"

namespace harrier {

/// One .npy file (version 1, little-endian, C order: as numpy.save writes it).
struct GoldenArray {
  ElementType type = ElementType::kFloat32;
  std::vector<int64_t> shape;
  std::vector<char> bytes;

  ArrayView view() const { return {.data = bytes.data(), .type = type, .shape = shape}; }
  std::vector<double> as_doubles() const;
};

GoldenArray read_golden(const std::string& path);

/// [batch, heads, length, dim] as [batch * length, heads, dim], the oracle's order, and back is the same call with
/// heads and length exchanged.
std::vector<double> swap_heads_and_length(const std::vector<double>& values, const std::vector<int64_t>& shape);

std::string read_text(const std::string& path);

}  // namespace harrier
