#include "cli/run_gradients.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <filesystem>

#include "cli/convert.h"
#include "cli/output_file.h"
#include "cli/run_output.h"
#include "ir/error.h"
#include "ir/verify.h"

namespace harrier {
namespace {

NpyArray zeros(ElementType type, const std::vector<int64_t>& shape) {
  NpyArray array{.type = type, .shape = shape, .bytes = {}};
  array.bytes.resize(static_cast<size_t>(element_count(shape) * bytes_of(type)));
  return array;
}

NpyArray read_d_out(const RunOptions& options, const Workload& workload, RunInputs& inputs) {
  const DataType dtype = workload.shape.dtype;
  if (options.d_out.empty()) {
    inputs.notes.push_back(fmt::format("d_out is drawn at random: seed {}", options.seed));
    return draw_tensor(inputs.out.shape, dtype, ~options.seed);
  }
  NpyArray array = read_output_like(inputs.out.shape, "--d-out", options.d_out);
  return in_dtype(std::move(array), dtype, fmt::format("--d-out {}", options.d_out));
}

}  // namespace

RunGradients make_run_gradients(const RunOptions& options, const Workload& workload, RunInputs& inputs) {
  const DataType dtype = workload.shape.dtype;
  const ElementType type = element_type_of(dtype);
  RunGradients gradients;
  gradients.d_out = read_d_out(options, workload, inputs);
  gradients.computed.emplace_back("d_q", zeros(type, inputs.q.shape));
  gradients.computed.emplace_back("d_k", zeros(type, inputs.k.shape));
  gradients.computed.emplace_back("d_v", zeros(type, inputs.v.shape));
  const Bindings bindings = inputs.arrays.bindings();
  std::vector<std::string> names;
  for (const ArrayUse& use : array_uses(workload.pattern)) {
    const auto bound = bindings.find(use.name);
    if (!has_gradient(use.role) || bound == bindings.end()) continue;
    names.push_back(use.name);
    gradients.computed.emplace_back("d_" + use.name, zeros(ElementType::kFloat32, bound->second.shape));
  }
  // Views last: the list no longer moves its arrays.
  gradients.views.d_out = view_of(gradients.d_out, dtype);
  gradients.views.d_q = view_of(gradients.computed[0].second, dtype);
  gradients.views.d_k = view_of(gradients.computed[1].second, dtype);
  gradients.views.d_v = view_of(gradients.computed[2].second, dtype);
  for (size_t i = 0; i < names.size(); ++i) {
    gradients.views.arrays[names[i]] = view_of(gradients.computed[3 + i].second, DataType::kFloat32);
  }
  return gradients;
}

std::string gradient_path(const std::string& prefix, const std::string& name) { return prefix + name + ".npy"; }

void check_gradients_can_be_written(const RunOptions& options, const RunGradients& gradients) {
  if (options.gradients.empty()) return;
  for (const auto& [name, array] : gradients.computed) const OutputFile probe(gradient_path(options.gradients, name));
}

std::vector<std::pair<std::string, NpyArray>> read_expected_gradients(const RunOptions& options,
                                                                      const RunGradients& gradients) {
  std::vector<std::pair<std::string, NpyArray>> expected;
  if (options.expect_gradients.empty()) return expected;
  for (const auto& [name, array] : gradients.computed) {
    const std::string path = gradient_path(options.expect_gradients, name);
    if (std::filesystem::exists(path)) {
      expected.emplace_back(name, read_output_like(array.shape, "--expect-gradients", path));
    }
  }
  if (expected.empty()) {
    throw InvalidInput(
        fmt::format("--expect-gradients {}: there is no {}, nor any other gradient: name the prefix of "
                    "such files",
                    options.expect_gradients, gradient_path(options.expect_gradients, "d_q")));
  }
  return expected;
}

std::vector<std::pair<std::string, NpyArray>> gradients_as_float(RunGradients& gradients) {
  std::vector<std::pair<std::string, NpyArray>> floats;
  for (auto& [name, array] : gradients.computed) {
    floats.emplace_back(name, in_dtype(std::move(array), DataType::kFloat32, name));
  }
  return floats;
}

}  // namespace harrier
