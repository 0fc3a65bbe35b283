#include "support/backward_case.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "support/attention_buffers.h"
#include "support/oracle.h"
#include "support/random_pattern.h"

namespace harrier {
namespace {

/// One tensor of a call: its heads and dims, and where it is.
struct Operand {
  bool is_query;
  int64_t heads;
  int64_t dims;
  AttentionBuffer buffer;
};

Operand make_operand(const AttentionCase& test, bool is_query, int64_t heads, int64_t dims) {
  return {.is_query = is_query,
          .heads = heads,
          .dims = dims,
          .buffer = make_buffer(test.layout, test.geometry, is_query, heads, dims, test.workload.shape.dtype)};
}

/// Random values; NaN in what the semantics say is never read.
std::vector<double> draw_values(Operand& operand, const AttentionCase& test, std::mt19937_64& random) {
  const bool padding_takes_part = std::holds_alternative<PaddingAdditive>(test.workload.pattern.padding);
  const int64_t tokens = operand.is_query ? test.geometry.query_tokens : test.geometry.key_tokens;
  const DataType dtype = test.workload.shape.dtype;
  const std::vector<double> values = random_values(random, tokens * operand.heads * operand.dims, dtype);
  fill(operand.buffer, test.layout, test.geometry, operand.is_query, operand.heads, dtype, values,
       [&](const Sequence& sequence, int64_t position) {
         if (operand.is_query) return position < sequence.query_valid;
         return padding_takes_part || position < sequence.key_valid;
       });
  return values;
}

/// True when every row of `dims` numbers is zeros wherever that of `guide`, of `guide_dims`, is.
bool is_zero_where(const std::vector<double>& guide, int64_t guide_dims, const std::vector<double>& actual,
                   int64_t dims) {
  const auto is_zero_row = [](const std::vector<double>& values, int64_t row, int64_t width) {
    const auto begin = values.begin() + row * width;
    return std::all_of(begin, begin + width, [](double x) { return x == 0; });
  };
  for (int64_t row = 0; row < static_cast<int64_t>(actual.size()) / dims; ++row) {
    if (is_zero_row(guide, row, guide_dims) && !is_zero_row(actual, row, dims)) return false;
  }
  return true;
}

/// Dense float32 memory for the gradients of arrays, between canaries.
struct ArrayMemory {
  static constexpr float kCanary = 12345.5F;
  std::map<std::string, std::vector<float>> memory;

  void add(const std::string& name, const ArrayView& array, AttentionGradients& gradients) {
    std::vector<float>& floats = memory[name];
    floats.assign(static_cast<size_t>(element_count(array.shape)) + 2, kCanary);
    gradients.arrays[name] = {
        .data = floats.data() + 1, .dtype = DataType::kFloat32, .shape = array.shape, .strides = {}};
  }
};

void append_bytes(std::vector<uint8_t>& to, const void* from, size_t bytes) {
  const auto* begin = static_cast<const uint8_t*>(from);
  to.insert(to.end(), begin, begin + bytes);
}

}  // namespace

double backward_tolerance_of(DataType dtype) {
  // O is rounded before it is read back, so rounding comes in twice, and sums over keys grow it.
  return dtype == DataType::kFloat32 ? 1e-4 : 6 * tolerance_of(dtype);
}

namespace {

/// Runs the forward call, whose O and LSE the backward one reads; empty: they are the oracle's.
using RunForward = std::function<void(const AttentionTensors&, const Bindings&)>;

BackwardErrors run_with(const AttentionCase& test, const RunForward& run_forward, const RunBackward& run_backward) {
  const Shape& shape = test.workload.shape;
  const Pattern& pattern = test.workload.pattern;
  std::mt19937_64 random(test.seed);
  RandomArrays arrays = random_arrays(random, pattern, shape, test.geometry);
  if (!test.arrays.empty()) arrays.bindings = test.arrays;

  Operand q = make_operand(test, true, shape.heads, shape.head_dim);
  Operand k = make_operand(test, false, shape.kv_heads, shape.head_dim);
  Operand v = make_operand(test, false, shape.kv_heads, shape.value_dim);
  Operand out = make_operand(test, true, shape.heads, shape.value_dim);
  Operand d_out = make_operand(test, true, shape.heads, shape.value_dim);
  Operand d_q = make_operand(test, true, shape.heads, shape.head_dim);
  Operand d_k = make_operand(test, false, shape.kv_heads, shape.head_dim);
  Operand d_v = make_operand(test, false, shape.kv_heads, shape.value_dim);
  AttentionBuffer lse = make_buffer(test.layout, test.geometry, true, shape.heads, 1, DataType::kFloat32);
  const std::vector<double> q_values = draw_values(q, test, random);
  const std::vector<double> k_values = draw_values(k, test, random);
  const std::vector<double> v_values = draw_values(v, test, random);
  const std::vector<double> d_out_values = draw_values(d_out, test, random);

  AttentionTensors tensors;
  tensors.q = q.buffer.view;
  tensors.k = k.buffer.view;
  tensors.v = v.buffer.view;
  tensors.out = out.buffer.view;
  tensors.lse = lse.view;
  tensors.lse.shape.pop_back();
  tensors.lse.strides.pop_back();
  describe_geometry(tensors, test.geometry, test.layout);
  const oracle::Forward output =
      oracle::forward(pattern, shape, test.geometry, arrays.bindings, q_values, k_values, v_values);
  if (run_forward) {
    run_forward(tensors, arrays.bindings);
  } else {
    const auto is_real = [](const Sequence& sequence, int64_t position) { return position < sequence.query_valid; };
    fill(out.buffer, test.layout, test.geometry, true, shape.heads, shape.dtype, output.out, is_real);
    fill(lse, test.layout, test.geometry, true, shape.heads, DataType::kFloat32, output.lse, is_real);
  }

  AttentionGradients gradients{
      .d_out = d_out.buffer.view, .d_q = d_q.buffer.view, .d_k = d_k.buffer.view, .d_v = d_v.buffer.view};
  const oracle::Backward expected =
      oracle::backward(pattern, shape, test.geometry, arrays.bindings, q_values, k_values, v_values, d_out_values);
  ArrayMemory array_memory;
  for (const auto& [name, values] : expected.d_arrays) array_memory.add(name, arrays.bindings.at(name), gradients);
  run_backward(tensors, gradients, arrays.bindings);

  BackwardErrors errors;
  // O of a query and dV of a key are zeros exactly where the other sees no pair.
  const auto compare = [&](Operand& operand, const std::vector<double>& reference, const std::vector<double>& guide) {
    append_bytes(errors.gradients, operand.buffer.bytes.data(), operand.buffer.bytes.size());
    const std::vector<double> actual =
        read(operand.buffer, test.layout, test.geometry, operand.is_query, operand.heads, shape.dtype);
    errors.canaries_intact = errors.canaries_intact && only_canaries(operand.buffer);
    errors.empty_is_zero = errors.empty_is_zero && is_zero_where(guide, shape.value_dim, actual, operand.dims);
    return max_error(actual, reference);
  };
  errors.d_q = compare(d_q, expected.d_q, output.out);
  errors.d_k = compare(d_k, expected.d_k, expected.d_v);
  errors.d_v = compare(d_v, expected.d_v, expected.d_v);
  for (const auto& [name, floats] : array_memory.memory) {
    append_bytes(errors.gradients, floats.data(), floats.size() * sizeof(float));
    const std::vector<double>& reference = expected.d_arrays.at(name);
    const std::vector<double>& magnitudes = expected.d_array_magnitudes.at(name);
    for (size_t i = 0; i < reference.size(); ++i) {
      const double error = std::abs(static_cast<double>(floats[i + 1]) - reference[i]) / std::max(1.0, magnitudes[i]);
      errors.d_arrays = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(errors.d_arrays, error);
    }
    errors.canaries_intact =
        errors.canaries_intact && floats.front() == ArrayMemory::kCanary && floats.back() == ArrayMemory::kCanary;
  }
  return errors;
}

}  // namespace

BackwardErrors run_backward_case(const AttentionCase& test, const CompileOptions& options, ForwardBy forward_by) {
  RunForward run_forward;
  if (forward_by == ForwardBy::kKernel) {
    run_forward = [&](const AttentionTensors& tensors, const Bindings& arrays) {
      Workload forward = test.workload;
      forward.shape.direction = Direction::kForward;
      compile(forward, options).run(tensors, arrays);
    };
  }
  Workload backward = test.workload;
  backward.shape.direction = Direction::kBackward;
  return run_with(test, run_forward,
                  [&](const AttentionTensors& tensors, const AttentionGradients& gradients, const Bindings& arrays) {
                    compile(backward, options).run_backward(tensors, gradients, arrays);
                  });
}

BackwardErrors run_backward_case(const AttentionCase& test, const RunBackward& run) { return run_with(test, {}, run); }

}  // namespace harrier
