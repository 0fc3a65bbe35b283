#include "support/attention_case.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ir/text.h"
#include "support/attention_buffers.h"
#include "support/oracle.h"
#include "support/random_pattern.h"
#include "support/tensors.h"

namespace harrier {
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
  AttentionBuffer q_buffer = make_buffer(test.layout, geometry, true, shape.heads, shape.head_dim, shape.dtype);
  AttentionBuffer k_buffer = make_buffer(test.layout, geometry, false, shape.kv_heads, shape.head_dim, shape.dtype);
  AttentionBuffer v_buffer = make_buffer(test.layout, geometry, false, shape.kv_heads, shape.value_dim, shape.dtype);
  AttentionBuffer out_buffer = make_buffer(test.layout, geometry, true, shape.heads, shape.value_dim, shape.dtype);
  AttentionBuffer lse_buffer = make_buffer(test.layout, geometry, true, shape.heads, 1, DataType::kFloat32);
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
  errors.out = max_error(read(out_buffer, test.layout, geometry, true, shape.heads, shape.dtype), expected.out);
  errors.lse = max_error(read(lse_buffer, test.layout, geometry, true, shape.heads, DataType::kFloat32), expected.lse);
  errors.canaries_intact = only_canaries(out_buffer) && only_canaries(lse_buffer);
  return errors;
}

}  // namespace harrier
