#include "support/attention_buffers.h"

#include <limits>

namespace harrier {
namespace {

constexpr uint8_t kCanary = 0xa5;
constexpr int64_t kTokenGap = 8;  // elements between packed tokens

}  // namespace

AttentionBuffer make_buffer(LayoutKind layout, const Geometry& geometry, bool is_query, int64_t heads, int64_t dims,
                            DataType dtype) {
  AttentionBuffer buffer;
  buffer.element_bytes = bytes_of(dtype);
  buffer.dims = dims;
  const auto batch = static_cast<int64_t>(geometry.sequences.size());
  const int64_t tokens = is_query ? geometry.query_tokens : geometry.key_tokens;
  int64_t elements = 0;
  if (layout == LayoutKind::kPacked) {
    const int64_t token_stride = heads * dims + kTokenGap;
    buffer.view.shape = {tokens, heads, dims};
    buffer.view.strides = {token_stride, dims, 1};
    elements = tokens * token_stride;
  } else {
    const Sequence& first = geometry.sequences.front();
    const int64_t length = is_query ? first.query_length : first.key_length;
    buffer.view.shape = {batch, heads, length, dims};
    const bool head_first = layout == LayoutKind::kBatchHeadLength;
    buffer.view.strides = {length * heads * dims, head_first ? length * dims : dims, head_first ? dims : heads * dims,
                           1};
    elements = batch * length * heads * dims;
  }
  buffer.view.dtype = dtype;
  buffer.bytes.assign(static_cast<size_t>((elements + 2 * AttentionBuffer::kGuardElements) * buffer.element_bytes),
                      kCanary);
  buffer.view.data = buffer.bytes.data() + AttentionBuffer::kGuardElements * buffer.element_bytes;
  return buffer;
}

void poison(AttentionBuffer& buffer, DataType dtype) {
  const std::vector<uint8_t> nan = encode({std::numeric_limits<double>::quiet_NaN()}, dtype);
  for (size_t i = 0; i < buffer.bytes.size(); ++i) buffer.bytes[i] = nan[i % nan.size()];
}

std::vector<double> read(AttentionBuffer& buffer, LayoutKind layout, const Geometry& geometry, bool is_query,
                         int64_t heads, DataType dtype) {
  const int64_t tokens = is_query ? geometry.query_tokens : geometry.key_tokens;
  std::vector<double> values(static_cast<size_t>(tokens * heads * buffer.dims));
  for (size_t b = 0; b < geometry.sequences.size(); ++b) {
    const Sequence& sequence = geometry.sequences[b];
    const int64_t length = is_query ? sequence.query_length : sequence.key_length;
    const int64_t first_token = is_query ? sequence.query_token : sequence.key_token;
    for (int64_t position = 0; position < length; ++position) {
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t token = first_token + position;
        uint8_t* from = buffer.bytes.data() + buffer.offset_of(layout, static_cast<int64_t>(b), head, position, token);
        const std::vector<uint8_t> bytes(from, from + buffer.dims * buffer.element_bytes);
        const std::vector<double> decoded = decode(bytes, dtype);
        std::copy(decoded.begin(), decoded.end(), values.begin() + (token * heads + head) * buffer.dims);
        std::fill(from, from + buffer.dims * buffer.element_bytes, kCanary);
      }
    }
  }
  return values;
}

bool only_canaries(const AttentionBuffer& buffer) {
  return std::all_of(buffer.bytes.begin(), buffer.bytes.end(), [](uint8_t byte) { return byte == kCanary; });
}

void describe_geometry(AttentionTensors& tensors, const Geometry& geometry, LayoutKind layout) {
  if (layout == LayoutKind::kPacked) {
    tensors.cu_seqlens = {0};
    tensors.key_cu_seqlens = {0};
    for (const Sequence& sequence : geometry.sequences) {
      tensors.cu_seqlens.push_back(tensors.cu_seqlens.back() + sequence.query_length);
      tensors.key_cu_seqlens.push_back(tensors.key_cu_seqlens.back() + sequence.key_length);
    }
    return;
  }
  for (const Sequence& sequence : geometry.sequences) {
    tensors.lengths.push_back(sequence.query_valid);
    tensors.key_lengths.push_back(sequence.key_valid);
  }
}

}  // namespace harrier
