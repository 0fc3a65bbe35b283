// A workload: pattern + shape + length distribution, which is what an .attn file holds.
#pragma once

#include <cstdint>
#include <string>

#include "ir/length_distribution.h"
#include "ir/pattern.h"

namespace harrier {

enum class DataType { kFloat32, kBFloat16, kFloat16 };

/// "fp32", "bf16", "fp16"
const char* name_of(DataType type);
int64_t bytes_of(DataType type);

enum class Direction { kForward, kBackward };

struct Shape {
  int64_t heads = 1;
  int64_t kv_heads = 1;  // divides heads; query head h reads kv head h / (heads / kv_heads)
  int64_t head_dim = 64;
  int64_t value_dim = 64;
  DataType dtype = DataType::kFloat32;
  Direction direction = Direction::kForward;
  bool deterministic = false;  // of gradients: the same bits every time. What a forward pass gives has them anyway
  bool operator==(const Shape&) const = default;
};

struct Workload {
  std::string name = {};
  Shape shape = {};
  Pattern pattern = {};
  LengthDistribution lengths = FixedLength{1024};
  int64_t batch = 1;
  bool operator==(const Workload&) const = default;
};

}  // namespace harrier
