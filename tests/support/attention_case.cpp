#include "support/attention_case.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ir/text.h"
#include "support/oracle.h"
#include "support/random_pattern.h"
#include "support/tensors.h"

namespace harrier {
namespace {

constexpr double kPoison = std::numeric_limits<double>::quiet_NaN();
constexpr uint8_t kCanary = 0xa5;
constexpr int64_t kGuardElements = 64;  // before and after every buffer
constexpr int64_t kTokenGap = 8;        // elements between packed tokens

/// A tensor in one of the layouts, inside a larger buffer.
struct Buffer {
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
};

Buffer make_buffer(LayoutKind layout, const Geometry& geometry, bool is_query, int64_t heads, int64_t dims,
                   DataType dtype) {
  Buffer buffer;
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
  buffer.bytes.assign(static_cast<size_t>((elements + 2 * kGuardElements) * buffer.element_bytes), kCanary);
  buffer.view.data = buffer.bytes.data() + kGuardElements * buffer.element_bytes;
  return buffer;
}

/// Fills the whole buffer with NaN, then writes the tokens that `is_real(sequence, position)` says exist. `values` are
/// in packed token order.
template <typename IsReal>
void fill(Buffer& buffer, LayoutKind layout, const Geometry& geometry, bool is_query, int64_t heads, DataType dtype,
          const std::vector<double>& values, IsReal is_real) {
  const std::vector<uint8_t> poison = encode({kPoison}, dtype);
  for (size_t i = 0; i < buffer.bytes.size(); ++i) buffer.bytes[i] = poison[i % poison.size()];
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
std::vector<double> read(Buffer& buffer, LayoutKind layout, const Geometry& geometry, int64_t heads, DataType dtype) {
  std::vector<double> values(static_cast<size_t>(geometry.query_tokens * heads * buffer.dims));
  for (size_t b = 0; b < geometry.sequences.size(); ++b) {
    const Sequence& sequence = geometry.sequences[b];
    for (int64_t position = 0; position < sequence.query_length; ++position) {
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t token = sequence.query_token + position;
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

bool only_canaries(const Buffer& buffer) {
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

}  // namespace

const char* name_of(LayoutKind layout) {
  switch (layout) {
    case LayoutKind::kPacked:
      return "packed";
    case LayoutKind::kBatchHeadLength:
      return "batch-head-length";
    case LayoutKind::kBatchLengthHead:
      return "batch-length-head";
  }
  return "unknown";
}

double tolerance_of(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32:
      return 2e-5;
    case DataType::kBFloat16:
      return 4.1e-3;  // half a unit in the last of 8 bits, relative
    case DataType::kFloat16:
      return 6e-4;  // of 11 bits
  }
  return 0;
}

std::string describe(const AttentionCase& test) {
  std::string lengths;
  for (const Sequence& sequence : test.geometry.sequences) {
    lengths += fmt::format(" {}/{}x{}/{}", sequence.query_valid, sequence.query_length, sequence.key_valid,
                           sequence.key_length);
  }
  return fmt::format("seed {} layout {} lengths{}\n{}", test.seed, name_of(test.layout), lengths, print(test.workload));
}

Geometry packed_geometry(const std::vector<int64_t>& query_lengths, const std::vector<int64_t>& key_lengths) {
  Geometry geometry;
  for (size_t i = 0; i < query_lengths.size(); ++i) {
    geometry.sequences.push_back({.query_length = query_lengths[i],
                                  .key_length = key_lengths[i],
                                  .query_valid = query_lengths[i],
                                  .key_valid = key_lengths[i],
                                  .query_token = geometry.query_tokens,
                                  .key_token = geometry.key_tokens});
    geometry.query_tokens += query_lengths[i];
    geometry.key_tokens += key_lengths[i];
  }
  return geometry;
}

Geometry padded_geometry(int64_t length, const std::vector<int64_t>& valid_lengths) {
  Geometry geometry;
  for (const int64_t valid : valid_lengths) {
    geometry.sequences.push_back({.query_length = length,
                                  .key_length = length,
                                  .query_valid = valid,
                                  .key_valid = valid,
                                  .query_token = geometry.query_tokens,
                                  .key_token = geometry.key_tokens});
    geometry.query_tokens += length;
    geometry.key_tokens += length;
  }
  return geometry;
}

AttentionErrors run_case(const AttentionCase& test, const Kernel& kernel) {
  return run_case(test,
                  [&](const AttentionTensors& tensors, const Bindings& bindings) { kernel.run(tensors, bindings); });
}

AttentionErrors run_case(const AttentionCase& test, const RunAttention& run) {
  const Shape& shape = test.workload.shape;
  const Pattern& pattern = test.workload.pattern;
  const Geometry& geometry = test.geometry;
  std::mt19937_64 random(test.seed);
  RandomArrays arrays = random_arrays(random, pattern, shape, geometry);
  if (!test.arrays.empty()) arrays.bindings = test.arrays;
  const std::vector<double> q =
      random_values(random, geometry.query_tokens * shape.heads * shape.head_dim, shape.dtype);
  const std::vector<double> k =
      random_values(random, geometry.key_tokens * shape.kv_heads * shape.head_dim, shape.dtype);
  const std::vector<double> v =
      random_values(random, geometry.key_tokens * shape.kv_heads * shape.value_dim, shape.dtype);

  const bool padding_takes_part = std::holds_alternative<PaddingAdditive>(pattern.padding);
  const auto real_query = [](const Sequence& sequence, int64_t position) { return position < sequence.query_valid; };
  const auto real_key = [&](const Sequence& sequence, int64_t position) {
    return padding_takes_part || position < sequence.key_valid;
  };
  AttentionTensors tensors;
  Buffer q_buffer = make_buffer(test.layout, geometry, true, shape.heads, shape.head_dim, shape.dtype);
  Buffer k_buffer = make_buffer(test.layout, geometry, false, shape.kv_heads, shape.head_dim, shape.dtype);
  Buffer v_buffer = make_buffer(test.layout, geometry, false, shape.kv_heads, shape.value_dim, shape.dtype);
  Buffer out_buffer = make_buffer(test.layout, geometry, true, shape.heads, shape.value_dim, shape.dtype);
  Buffer lse_buffer = make_buffer(test.layout, geometry, true, shape.heads, 1, DataType::kFloat32);
  fill(q_buffer, test.layout, geometry, true, shape.heads, shape.dtype, q, real_query);
  fill(k_buffer, test.layout, geometry, false, shape.kv_heads, shape.dtype, k, real_key);
  fill(v_buffer, test.layout, geometry, false, shape.kv_heads, shape.dtype, v, real_key);
  tensors.q = q_buffer.view;
  tensors.k = k_buffer.view;
  tensors.v = v_buffer.view;
  tensors.out = out_buffer.view;
  tensors.lse = lse_buffer.view;
  tensors.lse.shape.pop_back();
  tensors.lse.strides.pop_back();
  describe_geometry(tensors, geometry, test.layout);
  run(tensors, arrays.bindings);

  const oracle::Forward expected = oracle::forward(pattern, shape, geometry, arrays.bindings, q, k, v);
  AttentionErrors errors;
  errors.out = max_error(read(out_buffer, test.layout, geometry, shape.heads, shape.dtype), expected.out);
  errors.lse = max_error(read(lse_buffer, test.layout, geometry, shape.heads, DataType::kFloat32), expected.lse);
  errors.canaries_intact = only_canaries(out_buffer) && only_canaries(lse_buffer);
  return errors;
}

}  // namespace harrier
