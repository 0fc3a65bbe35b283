// The lengths of one launch, and views of the arrays that it binds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace harrier {

/// One batch row. Extents are what the pattern's geometry sees; valid lengths are at most the extents (equal when
/// packed).
struct Sequence {
  int64_t query_length = 0;
  int64_t key_length = 0;
  int64_t query_valid = 0;
  int64_t key_valid = 0;
  int64_t query_token = 0;  // place of query 0 in the packed token order of the batch (batch row * length when padded)
  int64_t key_token = 0;
  bool operator==(const Sequence&) const = default;
};

struct Geometry {
  std::vector<Sequence> sequences;
  int64_t query_tokens = 0;  // tokens of all rows, padding included
  int64_t key_tokens = 0;
  bool operator==(const Geometry&) const = default;
};

/// Sequences one after another; `key_lengths` empty: as the queries'.
Geometry packed_geometry(const std::vector<int64_t>& query_lengths, const std::vector<int64_t>& key_lengths = {});

/// Element types of arrays that a pattern binds (and of .npy files).
enum class ElementType {
  kBool,
  kInt8,
  kUInt8,
  kInt16,
  kUInt16,
  kInt32,
  kUInt32,
  kInt64,
  kUInt64,
  kFloat16,
  kBFloat16,
  kFloat32,
  kFloat64
};

/// "bool", "int32", ...
const char* name_of(ElementType type);
int64_t bytes_of(ElementType type);

/// A dense, row-major array that outlives the launch. Does not own.
struct ArrayView {
  const void* data = nullptr;
  ElementType type = ElementType::kFloat32;
  std::vector<int64_t> shape;
};

/// Number of elements; throws InvalidInput when a dimension is negative or the product passes 2^62.
int64_t element_count(const std::vector<int64_t>& shape);

/// `@name` -> array.
using Bindings = std::map<std::string, ArrayView>;

}  // namespace harrier
