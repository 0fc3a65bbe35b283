#include "ir/geometry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ir/error.h"

namespace harrier {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 62;

}  // namespace

Geometry packed_geometry(const std::vector<int64_t>& query_lengths, const std::vector<int64_t>& key_lengths) {
  const bool has_both = key_lengths.empty() || key_lengths.size() == query_lengths.size();
  HARRIER_CHECK(has_both, "each sequence has both lengths");
  Geometry geometry;
  for (size_t i = 0; i < query_lengths.size(); ++i) {
    const int64_t queries = query_lengths[i];
    const int64_t keys = key_lengths.empty() ? queries : key_lengths[i];
    geometry.sequences.push_back({.query_length = queries,
                                  .key_length = keys,
                                  .query_valid = queries,
                                  .key_valid = keys,
                                  .query_token = geometry.query_tokens,
                                  .key_token = geometry.key_tokens});
    geometry.query_tokens += queries;
    geometry.key_tokens += keys;
  }
  return geometry;
}

const char* name_of(ElementType type) {
  switch (type) {
    case ElementType::kBool:
      return "bool";
    case ElementType::kInt8:
      return "int8";
    case ElementType::kUInt8:
      return "uint8";
    case ElementType::kInt16:
      return "int16";
    case ElementType::kUInt16:
      return "uint16";
    case ElementType::kInt32:
      return "int32";
    case ElementType::kUInt32:
      return "uint32";
    case ElementType::kInt64:
      return "int64";
    case ElementType::kUInt64:
      return "uint64";
    case ElementType::kFloat16:
      return "float16";
    case ElementType::kBFloat16:
      return "bfloat16";
    case ElementType::kFloat32:
      return "float32";
    case ElementType::kFloat64:
      break;
  }
  return "float64";
}

int64_t bytes_of(ElementType type) {
  switch (type) {
    case ElementType::kBool:
    case ElementType::kInt8:
    case ElementType::kUInt8:
      return 1;
    case ElementType::kInt16:
    case ElementType::kUInt16:
    case ElementType::kFloat16:
    case ElementType::kBFloat16:
      return 2;
    case ElementType::kInt32:
    case ElementType::kUInt32:
    case ElementType::kFloat32:
      return 4;
    case ElementType::kInt64:
    case ElementType::kUInt64:
    case ElementType::kFloat64:
      break;
  }
  return 8;
}

int64_t element_count(const std::vector<int64_t>& shape) {
  bool is_empty = false;
  for (const int64_t dimension : shape) {
    if (dimension < 0) {
      throw InvalidInput(fmt::format("shape [{}] has the negative dimension {}; dimensions start at 0",
                                     fmt::join(shape, ", "), dimension));
    }
    is_empty = is_empty || dimension == 0;
  }
  if (is_empty) return 0;
  int64_t count = 1;
  for (const int64_t dimension : shape) {
    if (dimension > kMaxElements / count) {
      throw InvalidInput(
          fmt::format("shape [{}] has more than 2^62 elements; use smaller dimensions", fmt::join(shape, ", ")));
    }
    count *= dimension;
  }
  return count;
}

}  // namespace harrier
