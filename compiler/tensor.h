// Tensors as a caller hands them over, and the batch geometry that they imply.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

/// A strided view. Strides in elements, 64-bit; the last dimension is contiguous. Does not own.
struct TensorView {
  void* data = nullptr;
  DataType dtype = DataType::kFloat32;
  std::vector<int64_t> shape = {};
  std::vector<int64_t> strides = {};  // empty = dense, row-major
};

/// One attention call. Padded: q, k, v, out are [batch, heads, length, dim] and lse [batch, heads, length]; `lengths`
/// are valid lengths of the queries (empty: all valid), `key_lengths` those of the keys (empty: as `lengths` when q and
/// k have the same length, else all valid). Packed: [tokens, heads, dim] and lse [tokens, heads]; cu_seqlens are batch
/// + 1 rising offsets from 0 to the number of tokens (key_cu_seqlens empty: as cu_seqlens).
struct AttentionTensors {
  TensorView q;
  TensorView k;
  TensorView v;
  TensorView out;  // written whole: rows past the valid length become zeros. A backward call reads it
  TensorView lse;  // optional (data == nullptr): float32. A backward call needs it, as the forward call wrote it
  std::vector<int64_t> lengths;
  std::vector<int64_t> key_lengths;
  std::vector<int64_t> cu_seqlens;  // not empty: packed
  std::vector<int64_t> key_cu_seqlens;
};

/// One backward call: what it reads beside the tensors of the forward call, and what it writes. Shapes and types are
/// those of the tensors that they are gradients of; strides are their own.
struct AttentionGradients {
  TensorView d_out;  // read
  TensorView d_q;    // written whole: rows past the valid length become zeros
  TensorView d_k;    // the same
  TensorView d_v;
  std::map<std::string, TensorView> arrays =
      {};  // of float arrays that the pattern names: float32, dense, written whole
};

/// Checks shapes, dtypes, strides and lengths against `shape` and each other. Throws InvalidInput: tensor, value,
/// limit, remedy.
Geometry check_tensors(const AttentionTensors& tensors, const Shape& shape);

}  // namespace harrier
