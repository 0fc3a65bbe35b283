// Tensors of attention calls for tests: in any layout, inside larger buffers, with poison and canaries around them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "compiler/tensor.h"
#include "ir/geometry.h"
#include "support/attention_case.h"
#include "support/tensors.h"

namespace harrier {

/// A tensor in one of the layouts, inside a larger buffer.
struct AttentionBuffer {
  std::vector<uint8_t> bytes;
  TensorView view;
  int64_t element_bytes = 0;
  int64_t dims = 0;

  /// Byte offset of (sequence b, head, position in the sequence), `token` being the packed index.
  int64_t offset_of(LayoutKind layout, int64_t b, int64_t head, int64_t position, int64_t token) const {
    const std::vector<int64_t>& strides = view.strides;
    const int64_t place = layout == LayoutKind::kPacked ? token * strides[0] + head * strides[1]
                                                        : b * strides[0] + head * strides[1] + position * strides[2];
    return (kGuardElements + place) * element_bytes;
  }

  /// Elements before and after what the view covers.
  static constexpr int64_t kGuardElements = 64;
};

/// A buffer full of canaries. `is_query`: tokens are those of the queries, else of the keys.
AttentionBuffer make_buffer(LayoutKind layout, const Geometry& geometry, bool is_query, int64_t heads, int64_t dims,
                            DataType dtype);

/// NaN in every element.
void poison(AttentionBuffer& buffer, DataType dtype);

/// Fills the whole buffer with NaN, then writes the tokens that `is_real(sequence, position)` says exist. `values` are
/// in packed token order.
template <typename IsReal>
void fill(AttentionBuffer& buffer, LayoutKind layout, const Geometry& geometry, bool is_query, int64_t heads,
          DataType dtype, const std::vector<double>& values, IsReal is_real) {
  poison(buffer, dtype);
  for (size_t b = 0; b < geometry.sequences.size(); ++b) {
    const Sequence& sequence = geometry.sequences[b];
    const int64_t length = is_query ? sequence.query_length : sequence.key_length;
    const int64_t first_token = is_query ? sequence.query_token : sequence.key_token;
    for (int64_t position = 0; position < length; ++position) {
      if (!is_real(sequence, position)) continue;
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t token = first_token + position;
        const auto begin = values.begin() + (token * heads + head) * buffer.dims;
        const std::vector<uint8_t> bytes = encode({begin, begin + buffer.dims}, dtype);
        std::memcpy(buffer.bytes.data() + buffer.offset_of(layout, static_cast<int64_t>(b), head, position, token),
                    bytes.data(), bytes.size());
      }
    }
  }
}

/// The buffer's tokens in packed order, each byte it takes marked as seen.
std::vector<double> read(AttentionBuffer& buffer, LayoutKind layout, const Geometry& geometry, bool is_query,
                         int64_t heads, DataType dtype);

/// True when nothing was written that has not been read.
bool only_canaries(const AttentionBuffer& buffer);

void describe_geometry(AttentionTensors& tensors, const Geometry& geometry, LayoutKind layout);

}  // namespace harrier
