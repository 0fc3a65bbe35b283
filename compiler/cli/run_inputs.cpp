#include "cli/run_inputs.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "cli/convert.h"
#include "cli/draw_arrays.h"
#include "ir/error.h"
#include "ir/geometry.h"
#include "ir/length_distribution.h"

namespace harrier {
TensorView view_of(NpyArray& array, DataType dtype) {
  return {.data = array.bytes.data(), .dtype = dtype, .shape = array.shape, .strides = {}};
}

namespace {

NpyArray read_tensor(const char* option, const std::string& path, DataType dtype, std::vector<std::string>& notes) {
  NpyArray array = read_npy(path);
  const ElementType stored = array.type;
  const ElementType wanted = element_type_of(dtype);
  NpyArray converted = in_dtype(std::move(array), dtype, fmt::format("{} {}", option, path));
  if (stored != wanted)
    notes.push_back(fmt::format("{} is read as {}: the file holds {}", option, name_of(dtype), name_of(stored)));
  return converted;
}

void check_given_together(const RunOptions& options) {
  const bool has_any = !options.q.empty() || !options.k.empty() || !options.v.empty();
  const bool has_all = !options.q.empty() && !options.k.empty() && !options.v.empty();
  if (has_any && !has_all) {
    const char* missing = options.q.empty() ? "--q" : options.k.empty() ? "--k" : "--v";
    throw InvalidInput(fmt::format("{} is missing: give --q, --k and --v together, or none for random ones", missing));
  }
  const bool has_lengths = !options.lengths.empty() || !options.key_lengths.empty();
  const bool has_offsets = !options.cu_seqlens.empty() || !options.key_cu_seqlens.empty();
  if (!has_any && (has_lengths || has_offsets)) {
    throw InvalidInput(fmt::format("{} needs arrays: give --q, --k and --v, or set lengths in the .attn file",
                                   has_lengths ? "--lengths" : "--cu-seqlens"));
  }
  if (has_lengths && has_offsets) {
    throw InvalidInput(
        "--lengths and --cu-seqlens exclude each other: lengths are for padded arrays, offsets for packed");
  }
  if (options.cu_seqlens.empty() && !options.key_cu_seqlens.empty()) {
    throw InvalidInput("--key-cu-seqlens needs --cu-seqlens: give the offsets of the queries too");
  }
}

void read_tensors(const RunOptions& options, const Workload& workload, RunInputs& inputs) {
  const DataType dtype = workload.shape.dtype;
  inputs.q = read_tensor("--q", options.q, dtype, inputs.notes);
  inputs.k = read_tensor("--k", options.k, dtype, inputs.notes);
  inputs.v = read_tensor("--v", options.v, dtype, inputs.notes);
  const bool is_packed = !options.cu_seqlens.empty();
  const size_t rank = is_packed ? 3 : 4;
  if (inputs.q.shape.size() != rank) {
    throw InvalidInput(fmt::format("--q {}: {} dimensions, not {}: {}", options.q, inputs.q.shape.size(), rank,
                                   is_packed
                                       ? "with --cu-seqlens arrays are [tokens, heads, dim]"
                                       : "arrays are [batch, heads, length, dim]; packed ones need --cu-seqlens"));
  }
  if (!options.lengths.empty()) inputs.tensors.lengths = read_integers(options.lengths);
  if (!options.key_lengths.empty()) inputs.tensors.key_lengths = read_integers(options.key_lengths);
  if (!options.cu_seqlens.empty()) inputs.tensors.cu_seqlens = read_integers(options.cu_seqlens);
  if (!options.key_cu_seqlens.empty()) inputs.tensors.key_cu_seqlens = read_integers(options.key_cu_seqlens);
}

/// Refuses what this machine cannot hold, rather than be killed half way.
void check_memory(int64_t tokens, const Shape& shape) {
  const double numbers = static_cast<double>(tokens) * static_cast<double>(shape.head_dim + shape.value_dim) *
                         static_cast<double>(shape.heads + shape.kv_heads);
  const double needed = numbers * static_cast<double>(bytes_of(shape.dtype));
  const double available = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (needed <= available) return;
  throw InvalidInput(
      fmt::format("random tensors of {} tokens need {:.1f} GB, this machine has {:.1f}: lower lengths or batch", tokens,
                  needed / 1e9, available / 1e9));
}

void draw_tensors(const RunOptions& options, const Workload& workload, RunInputs& inputs) {
  const Shape& shape = workload.shape;
  const std::vector<int64_t> lengths = sample_lengths(workload.lengths, workload.batch, options.seed);
  const Geometry geometry = packed_geometry(lengths);
  const int64_t tokens = geometry.query_tokens;
  check_memory(tokens, shape);
  // Seeds far apart, so that no tensor is another one shifted.
  SeededNumbers seeds(options.seed);
  inputs.q = draw_tensor({tokens, shape.heads, shape.head_dim}, shape.dtype, seeds.next());
  inputs.k = draw_tensor({tokens, shape.kv_heads, shape.head_dim}, shape.dtype, seeds.next());
  inputs.v = draw_tensor({tokens, shape.kv_heads, shape.value_dim}, shape.dtype, seeds.next());
  inputs.tensors.cu_seqlens = {0};
  for (const int64_t length : lengths) inputs.tensors.cu_seqlens.push_back(inputs.tensors.cu_seqlens.back() + length);
  inputs.notes.push_back(fmt::format("q, k and v are drawn at random: {} sequences, {} tokens, seed {}", lengths.size(),
                                     tokens, options.seed));
  const std::vector<std::string> drawn = draw_unbound(inputs.arrays, workload.pattern, shape, geometry, options.seed);
  inputs.notes.insert(inputs.notes.end(), drawn.begin(), drawn.end());
}

}  // namespace

NpyArray draw_tensor(std::vector<int64_t> dimensions, DataType dtype, uint64_t seed) {
  NpyArray array{.type = ElementType::kFloat32, .shape = std::move(dimensions), .bytes = {}};
  const int64_t count = element_count(array.shape);
  array.bytes.resize(static_cast<size_t>(count) * sizeof(float));
  SeededNumbers numbers(seed);
  const double half_width = std::sqrt(3.0);
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>((2 * numbers.fraction() - 1) * half_width);
    std::memcpy(array.bytes.data() + i * static_cast<int64_t>(sizeof(float)), &value, sizeof(float));
  }
  return in_dtype(std::move(array), dtype, "random tensor");
}

RunInputs make_run_inputs(const RunOptions& options, const Workload& workload) {
  check_given_together(options);
  RunInputs inputs;
  inputs.arrays = read_bindings(options.bindings, workload.pattern);
  if (options.q.empty()) {
    draw_tensors(options, workload, inputs);
  } else {
    read_tensors(options, workload, inputs);
  }

  std::vector<int64_t> out_shape = inputs.q.shape;
  out_shape.back() = workload.shape.value_dim;
  const ElementType type = element_type_of(workload.shape.dtype);
  inputs.out = {.type = type, .shape = out_shape, .bytes = {}};
  inputs.out.bytes.resize(static_cast<size_t>(element_count(out_shape) * bytes_of(type)));
  out_shape.pop_back();
  inputs.lse = {.type = ElementType::kFloat32, .shape = out_shape, .bytes = {}};
  inputs.lse.bytes.resize(static_cast<size_t>(element_count(out_shape)) * sizeof(float));

  AttentionTensors& tensors = inputs.tensors;
  tensors.q = view_of(inputs.q, workload.shape.dtype);
  tensors.k = view_of(inputs.k, workload.shape.dtype);
  tensors.v = view_of(inputs.v, workload.shape.dtype);
  tensors.out = view_of(inputs.out, workload.shape.dtype);
  tensors.lse = view_of(inputs.lse, DataType::kFloat32);
  return inputs;
}

}  // namespace harrier
