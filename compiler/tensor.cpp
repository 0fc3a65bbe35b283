#include "compiler/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <string_view>
#include <utility>

#include "compiler/tensor_checks.h"
#include "ir/error.h"

namespace harrier {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxBytes = int64_t{1} << 62;

std::string print(const std::vector<int64_t>& numbers) { return fmt::format("[{}]", fmt::join(numbers, ", ")); }

void check_dtype(std::string_view name, const TensorView& tensor, DataType expected) {
  if (tensor.dtype == expected) return;
  throw InvalidInput(fmt::format("{} holds {}, the pattern expects {}; convert it or change dtype", name,
                                 name_of(tensor.dtype), name_of(expected)));
}

void check_shape(std::string_view name, const TensorView& tensor, const std::vector<int64_t>& expected,
                 std::string_view layout) {
  if (tensor.shape == expected) return;
  throw InvalidInput(
      fmt::format("{} has shape {}, expected {} ({})", name, print(tensor.shape), print(expected), layout));
}

/// Strides that leave no element twice: sorted by stride, each dimension steps over all that the smaller ones span.
bool is_injective(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  std::vector<std::pair<int64_t, int64_t>> steps;  // (stride, dimension)
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0) return true;
    if (shape[i] > 1) steps.emplace_back(strides[i], shape[i]);
  }
  std::ranges::sort(steps);
  int64_t span = 1;
  for (const auto& [stride, dimension] : steps) {
    if (stride < span) return false;
    span += stride * (dimension - 1);
  }
  return true;
}

/// `has_dims`: the last dimension is the head dim, which kernels read as vectors; that of lse is a dimension like any
/// other.
void check_strides(std::string_view name, const TensorView& tensor, Access access, bool has_dims) {
  if (tensor.strides.empty()) return;
  if (tensor.strides.size() != tensor.shape.size()) {
    throw InvalidInput(fmt::format("{} has {} strides for {} dimensions; give one for each, or none when dense", name,
                                   tensor.strides.size(), tensor.shape.size()));
  }
  const bool is_contiguous = !has_dims || tensor.shape.back() <= 1 || tensor.strides.back() == 1;
  if (!is_contiguous) {
    throw InvalidInput(fmt::format("{} has stride {} in its last dimension, expected 1; make it contiguous there", name,
                                   tensor.strides.back()));
  }
  int64_t last = 0;  // offset of the last element
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    const int64_t steps = std::max<int64_t>(0, tensor.shape[i] - 1);
    if (tensor.strides[i] < 0) {
      throw InvalidInput(fmt::format("{} has the negative stride {} in dimension {}; copy it in rising order", name,
                                     tensor.strides[i], i));
    }
    if (steps > 0 && tensor.strides[i] > (kMaxBytes / 8 - last) / steps) {
      throw InvalidInput(
          fmt::format("{} has strides {} that reach past 2^62 bytes; use smaller ones", name, print(tensor.strides)));
    }
    last += tensor.strides[i] * steps;
  }
  if (access == Access::kWritten && !is_injective(tensor.shape, tensor.strides)) {
    throw InvalidInput(
        fmt::format("{} has strides {} under which elements share memory; it is written, so give each "
                    "its own",
                    name, print(tensor.strides)));
  }
}

void check_rank(std::string_view name, const TensorView& tensor, size_t rank, std::string_view layout) {
  if (tensor.shape.size() == rank) return;
  throw InvalidInput(fmt::format("{} has shape {} with {} dimensions, expected {} {}", name, print(tensor.shape),
                                 tensor.shape.size(), rank, layout));
}

void check_extent(std::string_view what, int64_t value) {
  if (value < 0 || value > kMaxInt32) {
    throw InvalidInput(fmt::format("{} is {}, expected 0 to {}; split it", what, value, kMaxInt32));
  }
}

void check_lengths(std::string_view name, const std::vector<int64_t>& lengths, int64_t batch, int64_t extent) {
  if (std::cmp_not_equal(lengths.size(), batch)) {
    throw InvalidInput(
        fmt::format("{} holds {} numbers, the batch has {} rows; give one for each", name, lengths.size(), batch));
  }
  for (size_t b = 0; b < lengths.size(); ++b) {
    if (lengths[b] < 0 || lengths[b] > extent) {
      throw InvalidInput(
          fmt::format("{}[{}] is {}, expected 0 to {}, the length of the tensor; pad it or cut the length", name, b,
                      lengths[b], extent));
    }
  }
}

void check_offsets(std::string_view name, const std::vector<int64_t>& offsets, int64_t tokens) {
  if (offsets.front() != 0 || offsets.back() != tokens) {
    throw InvalidInput(
        fmt::format("{} runs from {} to {}, expected 0 to {}, the number of tokens; give batch + 1 "
                    "offsets",
                    name, offsets.front(), offsets.back(), tokens));
  }
  for (size_t i = 1; i < offsets.size(); ++i) {
    if (offsets[i] < offsets[i - 1]) {
      throw InvalidInput(
          fmt::format("{}[{}] is {}, below the {} before it; offsets never fall", name, i, offsets[i], offsets[i - 1]));
    }
    // Both lie in [0, tokens] only when all rise, so the difference is checked before it can overflow.
    if (offsets[i] > tokens) {
      throw InvalidInput(
          fmt::format("{}[{}] is {}, past the {} tokens; offsets end there", name, i, offsets[i], tokens));
    }
    check_extent(fmt::format("the length of sequence {} by {}", i - 1, name), offsets[i] - offsets[i - 1]);
  }
}

Geometry check_packed(const AttentionTensors& tensors, const Shape& shape) {
  constexpr std::string_view kLayout = "[tokens, heads, dim]";
  if (!tensors.lengths.empty() || !tensors.key_lengths.empty()) {
    throw InvalidInput("lengths are given beside cu_seqlens; packed sequences have no padding, so leave lengths out");
  }
  check_rank("q", tensors.q, 3, kLayout);
  check_rank("k", tensors.k, 3, kLayout);
  const int64_t queries = tensors.q.shape[0];
  const int64_t keys = tensors.k.shape[0];
  check_tensor("q", tensors.q, shape.dtype, {queries, shape.heads, shape.head_dim}, kLayout, Access::kRead);
  check_tensor("k", tensors.k, shape.dtype, {keys, shape.kv_heads, shape.head_dim}, kLayout, Access::kRead);
  check_tensor("v", tensors.v, shape.dtype, {keys, shape.kv_heads, shape.value_dim}, kLayout, Access::kRead);
  check_tensor("out", tensors.out, shape.dtype, {queries, shape.heads, shape.value_dim}, kLayout, Access::kWritten);
  if (tensors.lse.data != nullptr) {
    check_tensor("lse", tensors.lse, DataType::kFloat32, {queries, shape.heads}, "[tokens, heads]", Access::kWritten);
  }
  const std::vector<int64_t>& q_offsets = tensors.cu_seqlens;
  const bool own_keys = !tensors.key_cu_seqlens.empty();
  const std::vector<int64_t>& k_offsets = own_keys ? tensors.key_cu_seqlens : q_offsets;
  if (q_offsets.size() != k_offsets.size()) {
    throw InvalidInput(fmt::format("cu_seqlens holds {} offsets and key_cu_seqlens {}; give both batch + 1",
                                   q_offsets.size(), k_offsets.size()));
  }
  check_offsets("cu_seqlens", q_offsets, queries);
  check_offsets(own_keys ? "key_cu_seqlens" : "cu_seqlens (for the keys)", k_offsets, keys);

  Geometry geometry{.sequences = {}, .query_tokens = queries, .key_tokens = keys};
  for (size_t b = 0; b + 1 < q_offsets.size(); ++b) {
    const int64_t query_length = q_offsets[b + 1] - q_offsets[b];
    const int64_t key_length = k_offsets[b + 1] - k_offsets[b];
    geometry.sequences.push_back({.query_length = query_length,
                                  .key_length = key_length,
                                  .query_valid = query_length,
                                  .key_valid = key_length,
                                  .query_token = q_offsets[b],
                                  .key_token = k_offsets[b]});
  }
  return geometry;
}

Geometry check_padded(const AttentionTensors& tensors, const Shape& shape) {
  constexpr std::string_view kLayout = "[batch, heads, length, dim]";
  if (!tensors.key_cu_seqlens.empty()) {
    throw InvalidInput("key_cu_seqlens is given without cu_seqlens; packed queries need cu_seqlens too");
  }
  check_rank("q", tensors.q, 4, kLayout);
  check_rank("k", tensors.k, 4, kLayout);
  const int64_t batch = tensors.q.shape[0];
  const int64_t queries = tensors.q.shape[2];
  const int64_t keys = tensors.k.shape[2];
  check_extent("the batch of q", batch);
  check_extent("the length of q", queries);
  check_extent("the length of k", keys);
  check_tensor("q", tensors.q, shape.dtype, {batch, shape.heads, queries, shape.head_dim}, kLayout, Access::kRead);
  check_tensor("k", tensors.k, shape.dtype, {batch, shape.kv_heads, keys, shape.head_dim}, kLayout, Access::kRead);
  check_tensor("v", tensors.v, shape.dtype, {batch, shape.kv_heads, keys, shape.value_dim}, kLayout, Access::kRead);
  check_tensor("out", tensors.out, shape.dtype, {batch, shape.heads, queries, shape.value_dim}, kLayout,
               Access::kWritten);
  if (tensors.lse.data != nullptr) {
    check_tensor("lse", tensors.lse, DataType::kFloat32, {batch, shape.heads, queries}, "[batch, heads, length]",
                 Access::kWritten);
  }
  if (!tensors.lengths.empty()) check_lengths("lengths", tensors.lengths, batch, queries);
  if (!tensors.key_lengths.empty()) check_lengths("key_lengths", tensors.key_lengths, batch, keys);

  const std::vector<int64_t>& key_lengths =
      tensors.key_lengths.empty() && queries == keys ? tensors.lengths : tensors.key_lengths;
  Geometry geometry{.sequences = {}, .query_tokens = batch * queries, .key_tokens = batch * keys};
  for (int64_t b = 0; b < batch; ++b) {
    const auto row = static_cast<size_t>(b);
    geometry.sequences.push_back({.query_length = queries,
                                  .key_length = keys,
                                  .query_valid = tensors.lengths.empty() ? queries : tensors.lengths[row],
                                  .key_valid = key_lengths.empty() ? keys : key_lengths[row],
                                  .query_token = b * queries,
                                  .key_token = b * keys});
  }
  return geometry;
}

}  // namespace

void check_tensor(std::string_view name, const TensorView& tensor, DataType dtype, const std::vector<int64_t>& shape,
                  std::string_view layout, Access access) {
  check_shape(name, tensor, shape, layout);
  check_dtype(name, tensor, dtype);
  const int64_t count = element_count(tensor.shape);
  if (count > kMaxBytes / bytes_of(dtype)) {
    throw InvalidInput(fmt::format("{} of shape {} passes 2^62 bytes; use a smaller one", name, print(tensor.shape)));
  }
  check_strides(name, tensor, access, layout.ends_with("dim]"));
  if (count > 0 && tensor.data == nullptr) {
    throw InvalidInput(fmt::format("{} has shape {} but no data; give it memory", name, print(tensor.shape)));
  }
  if (std::bit_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(bytes_of(dtype)) != 0) {
    throw InvalidInput(fmt::format("{} starts at an address that is no multiple of {} bytes, the size of {}; align it",
                                   name, bytes_of(dtype), name_of(dtype)));
  }
}

Geometry check_tensors(const AttentionTensors& tensors, const Shape& shape) {
  return tensors.cu_seqlens.empty() ? check_padded(tensors, shape) : check_packed(tensors, shape);
}

}  // namespace harrier
