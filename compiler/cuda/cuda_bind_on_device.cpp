// CudaKernel::bind_on_device: lengths and arrays stay where they are, and every launch builds its lists and order.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/cuda/table_use.h"
#include "compiler/bind_arrays.h"
#include "compiler/cuda/cuda_bound.h"
#include "compiler/harrier_cuda.h"
#include "ir/error.h"
#include "ir/match.h"
#include "ir/verify.h"

namespace harrier {
namespace {

const CudaArray& array_of(const CudaDeviceInputs& inputs, const std::string& name) {
  const auto found = inputs.arrays.find(name);
  if (found == inputs.arrays.end()) {
    throw InvalidInput(fmt::format("array @{} of the pattern is not bound; bind it", name));
  }
  return found->second;
}

/// Refuses other element types and other dimensions than one of `allowed` (-1: any), leading ones of 1 left out or not.
std::vector<int64_t> check_shape(const std::string& name, const CudaArray& array, const std::vector<ElementType>& types,
                                 const std::vector<std::vector<int64_t>>& allowed) {
  if (std::ranges::find(types, array.type) == types.end()) {
    throw InvalidInput(fmt::format("@{} has elements of {} on the device, expected {}: convert it there", name,
                                   name_of(array.type), name_of(types.front())));
  }
  std::vector<int64_t> shape(allowed.size() - std::min(allowed.size(), array.shape.size()), 1);
  shape.insert(shape.end(), array.shape.begin(), array.shape.end());
  bool fits = shape.size() == allowed.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = shape[i] >= 0 && (allowed[i].empty() || std::ranges::find(allowed[i], shape[i]) != allowed[i].end());
  }
  if (!fits) {
    std::string expected;
    for (const std::vector<int64_t>& sizes : allowed) {
      expected += fmt::format("{}{}", expected.empty() ? "" : ", ",
                              sizes.empty() ? std::string("any") : fmt::format("{}", sizes.back()));
    }
    throw InvalidInput(fmt::format("@{} has shape {} on the device; expected [{}] (leading ones may be 1 or left out)",
                                   name, print_shape(array.shape), expected));
  }
  return shape;
}

/// Row-major strides, 0 where a dimension is 1.
std::vector<int64_t> strides_of(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = shape[i] == 1 ? 0 : stride;
    stride *= shape[i];
  }
  return strides;
}

class DeviceBinder {
 public:
  DeviceBinder(const CudaCode& code, const CudaDeviceInputs& inputs, CudaBound& bound)
      : code_(code), inputs_(inputs), bound_(bound), shape_(code.compilation.workload.shape) {}

  void bind_arrays() {
    const Pattern& pattern = code_.compilation.workload.pattern;
    const std::vector<ArrayUse> uses = array_uses(pattern);
    for (const auto& [name, array] : inputs_.arrays) {
      const auto is_used = [&](const ArrayUse& use) { return use.name == name; };
      if (std::ranges::none_of(uses, is_used)) {
        throw InvalidInput(fmt::format("array @{} is bound, but the pattern names no such array; leave it out", name));
      }
      cuda::check_device_pointer(*code_.gpu.device, array.data, ("@" + name).c_str(),
                                 static_cast<int64_t>(bytes_of(array.type)));
    }
    for (const ArraySlot& slot : code_.compilation.pattern.arrays) bind_slot(slot, uses);
    if (looks_tables_up(code_.compilation.lowered, code_.compilation.plan)) {
      throw InvalidInput(
          "this mask looks its block tables up pair by pair, which needs them on the host: call bind with lengths and "
          "arrays there");
    }
    bind_table(pattern.mask);
  }

  BlockTable table() const { return table_; }
  int64_t named_pairs() const { return named_pairs_; }

 private:
  void bind_slot(const ArraySlot& slot, const std::vector<ArrayUse>& uses) {
    const auto use = std::ranges::find(uses, slot.name, &ArrayUse::name);
    const std::vector<int64_t> batch = {1, inputs_.batch};
    const std::vector<int64_t> heads = {1, shape_.heads};
    if (use == uses.end() || use->role == ArrayRole::kExpressionInt || use->role == ArrayRole::kExpressionFloat) {
      throw InvalidInput(
          fmt::format("@{} is read in a way that needs it on the host: call bind with lengths and arrays "
                      "there",
                      slot.name.substr(0, slot.name.find('.'))));
    }
    const CudaArray& array = array_of(inputs_, slot.name);
    std::vector<int64_t> shape;
    if (use->role == ArrayRole::kBits) {
      const std::vector<int64_t> width = {(inputs_.longest_key + 7) / 8};
      shape = check_shape(slot.name, array, {ElementType::kUInt8}, {batch, heads, {inputs_.longest_query}, width});
    } else if (use->role == ArrayRole::kBias) {
      shape = check_shape(slot.name, array, {ElementType::kFloat32},
                          {batch, heads, {inputs_.longest_query}, {inputs_.longest_key}});
    } else if (use->role == ArrayRole::kSegment) {
      shape = check_shape(slot.name, array, {ElementType::kInt32}, {{key_tokens()}});
    } else {
      shape = check_shape(slot.name, array, {ElementType::kFloat32}, {{shape_.heads}});
    }
    const size_t place = bound_.pattern.arrays.size();
    BoundArray entry{};
    std::ranges::copy(strides_of(shape), entry.strides);
    bound_.pattern.arrays.push_back(entry);
    bound_.pattern.array_elements.push_back(element_count(shape));
    bound_.arguments.arrays[place].data = reinterpret_cast<const void*>(array.data);
    std::ranges::copy(entry.strides, bound_.arguments.arrays[place].strides);
  }

  int64_t key_tokens() const { return inputs_.packed ? inputs_.key_tokens : inputs_.batch * inputs_.longest_key; }

  void bind_table(const Mask& mask) {
    match(
        mask.node, [&](const Blocks& blocks) { blocks.table.empty() ? bind_lists(blocks) : bind_dense(blocks); },
        [&](const BigBird& bigbird) { bind_bigbird(bigbird); }, [&](const And& node) { bind_operands(node.operands); },
        [&](const Or& node) { bind_operands(node.operands); }, [&](const Not& node) { bind_table(*node.operand); },
        [](const auto&) {});
  }

  void bind_operands(const std::vector<Mask>& operands) {
    for (const Mask& operand : operands) bind_table(operand);
  }

  int64_t row_blocks(int64_t size) const { return (inputs_.longest_query + size - 1) / size; }
  int64_t key_blocks(int64_t size) const { return (inputs_.longest_key + size - 1) / size; }

  void check_blocks(const std::string& name, int64_t have, int64_t needed, const char* what) const {
    if (have >= needed) return;
    throw InvalidInput(
        fmt::format("@{} has {} {}, the longest sequence needs {}: bind a larger one", name, have, what, needed));
  }

  void bind_dense(const Blocks& blocks) {
    const CudaArray& array = array_of(inputs_, blocks.table);
    const std::vector<int64_t> shape = check_shape(
        blocks.table, array, {ElementType::kUInt8, ElementType::kBool, ElementType::kInt32, ElementType::kInt64},
        {{1, inputs_.batch}, {1, shape_.heads}, {}, {}});
    check_blocks(blocks.table, shape[2], row_blocks(blocks.size), "row blocks");
    check_blocks(blocks.table, shape[3], key_blocks(blocks.size), "key blocks");
    table_.kind = TableKind::kDense;
    table_.data = reinterpret_cast<const void*>(array.data);
    table_.element_bytes = static_cast<int>(bytes_of(array.type));
    table_.batch_stride = shape[0] == 1 ? 0 : shape[1] * shape[2] * shape[3];
    table_.head_stride = shape[1] == 1 ? 0 : shape[2] * shape[3];
    table_.row_stride = shape[3];
    table_.block = static_cast<int>(blocks.size);
    table_.counted = blocks.counted ? 1 : 0;
    named_pairs_ = shape[0] * shape[1] * shape[2] * shape[3];
  }

  void bind_lists(const Blocks& blocks) {
    const std::vector<ElementType> integers = {ElementType::kInt32, ElementType::kInt64};
    const CudaArray& offsets = array_of(inputs_, blocks.offsets);
    const CudaArray& indices = array_of(inputs_, blocks.indices);
    const std::vector<int64_t> shape = check_shape(blocks.offsets, offsets, integers, {{1, shape_.heads}, {}});
    check_shape(blocks.indices, indices, integers, {{}});
    check_blocks(blocks.offsets, shape[1], row_blocks(blocks.size) + 1, "offsets");
    table_.kind = TableKind::kLists;
    table_.data = reinterpret_cast<const void*>(indices.data);
    table_.offsets = reinterpret_cast<const void*>(offsets.data);
    table_.element_bytes = static_cast<int>(bytes_of(indices.type));
    table_.offset_bytes = static_cast<int>(bytes_of(offsets.type));
    table_.head_stride = shape[0] == 1 ? 0 : shape[1];
    table_.row_stride = 1;
    table_.block = static_cast<int>(blocks.size);
    table_.counted = blocks.counted ? 1 : 0;
    named_pairs_ = indices.shape.front();
  }

  void bind_bigbird(const BigBird& bigbird) {
    const int64_t rows = row_blocks(bigbird.block);
    table_.kind = TableKind::kBigBird;
    table_.row_stride = bigbird.random;
    table_.block = static_cast<int>(bigbird.block);
    table_.random = static_cast<int>(bigbird.random);
    table_.counted = 1;
    table_.element_bytes = sizeof(int32_t);
    int64_t table_heads = 1;
    if (const auto* source = std::get_if<BigBirdTable>(&bigbird.source)) {
      const CudaArray& array = array_of(inputs_, source->array);
      const std::vector<int64_t> shape = check_shape(source->array, array, {ElementType::kInt32, ElementType::kInt64},
                                                     {{1, shape_.heads}, {}, {bigbird.random}});
      check_blocks(source->array, shape[1], rows - 2, "row blocks");
      table_.data = reinterpret_cast<const void*>(array.data);
      table_.element_bytes = static_cast<int>(bytes_of(array.type));
      table_heads = shape[0];
      table_.head_stride = shape[0] == 1 ? 0 : shape[1] * shape[2];
    } else if (std::holds_alternative<BigBirdSeed>(bigbird.source)) {
      throw InvalidInput(
          "bigbird(seed=...) draws its blocks on the host for each length: call bind with lengths there");
    }
    named_pairs_ = table_heads * (rows * (5 + bigbird.random) + 2 * key_blocks(bigbird.block));
  }

  const CudaCode& code_;
  const CudaDeviceInputs& inputs_;
  CudaBound& bound_;
  const Shape& shape_;
  BlockTable table_{};
  int64_t named_pairs_ = 0;
};

void check_sizes(const CudaDeviceInputs& inputs) {
  const int64_t sizes[] = {inputs.batch, inputs.query_tokens, inputs.key_tokens, inputs.longest_key,
                           inputs.longest_query};
  for (const int64_t size : sizes) {
    if (size >= 0 && size < std::numeric_limits<int32_t>::max()) continue;
    throw InvalidInput(
        fmt::format("a batch or a number of tokens is {}, expected 0 to 2^31 - 2: split the batch", size));
  }
  if (std::max(inputs.longest_query, inputs.longest_key) > kLongestSequence) {
    throw InvalidInput(fmt::format("the longest sequence has {} tokens, CUDA kernels take up to {}: split it",
                                   std::max(inputs.longest_query, inputs.longest_key), kLongestSequence));
  }
  if (inputs.packed && inputs.cu_query == 0) {
    throw InvalidInput("a packed batch needs cu_query on the device: batch + 1 offsets of int32");
  }
}

SequenceTable sequences_of(const CudaDeviceInputs& inputs) {
  const auto ints = [](cuda::DevicePointer pointer) { return reinterpret_cast<const int*>(pointer); };
  if (inputs.packed) {
    return {.cu_query = ints(inputs.cu_query),
            .cu_key = ints(inputs.cu_key != 0 ? inputs.cu_key : inputs.cu_query),
            .query_valid = nullptr,
            .key_valid = nullptr,
            .query_length = 0,
            .key_length = 0};
  }
  return {.cu_query = nullptr,
          .cu_key = nullptr,
          .query_valid = ints(inputs.query_valid),
          .key_valid = ints(inputs.key_valid),
          .query_length = static_cast<int>(inputs.longest_query),
          .key_length = static_cast<int>(inputs.longest_key)};
}

}  // namespace

CudaBinding CudaKernel::bind_on_device(const CudaDeviceInputs& inputs, const CudaBindOptions& options) const {
  check_sizes(inputs);
  if (options.schedule) verify(*options.schedule);
  auto bound = std::make_shared<CudaBound>();
  // Nobody has looked whether ids of documents fall.
  bound->code = code_for_unsorted(code_);
  const CudaCode& code = *bound->code;
  for (const cuda::DevicePointer lengths : {inputs.cu_query, inputs.cu_key, inputs.query_valid, inputs.key_valid}) {
    if (lengths == 0) continue;
    cuda::check_device_pointer(*code.gpu.device, lengths, "an array of lengths", sizeof(int32_t));
  }
  bound->packed = inputs.packed;
  bound->geometry.query_tokens = inputs.packed ? inputs.query_tokens : inputs.batch * inputs.longest_query;
  bound->geometry.key_tokens = inputs.packed ? inputs.key_tokens : inputs.batch * inputs.longest_key;
  bound->schedule = options.schedule ? *options.schedule : schedule_for(code, bound->geometry);
  bound->sequences = sequences_of(inputs);
  DeviceBinder binder(code, inputs, *bound);
  binder.bind_arrays();
  for (const int64_t value : code.compilation.pattern.int_values) {
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    bound->pattern.int_parameters.push_back(static_cast<int32_t>(std::clamp(value, -kMost, kMost)));
  }
  for (const double value : code.compilation.pattern.float_values) {
    bound->pattern.float_parameters.push_back(static_cast<float>(value));
  }
  set_numbers(*bound);
  bound->build = plan_build({.code = code,
                             .pattern = bound->pattern,
                             .arguments = bound->arguments,
                             .sequences = bound->sequences,
                             .schedule = bound->schedule,
                             .table = binder.table(),
                             .named_pairs = binder.named_pairs(),
                             .batches = inputs.batch,
                             .query_tokens = inputs.packed ? inputs.query_tokens : inputs.longest_query,
                             .key_tokens = inputs.packed ? inputs.key_tokens : inputs.longest_key,
                             .most_keys = inputs.longest_key,
                             .packed = inputs.packed});
  bound->builds_anew = true;
  bound->built.order_length = static_cast<int>(bound->build.order_items);
  bound->built.split_count = bound->build.order.split_capacity / 2;
  if (bound->build.columns) {
    bound->built_columns.order_length = static_cast<int>(bound->build.columns->order_items);
    bound->built_columns.split_count = bound->built.split_count;
  }
  return bound;
}

}  // namespace harrier
