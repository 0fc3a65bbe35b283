#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cstddef>
#include <cstring>

#include "codegen/cuda/emit_builder.h"
#include "codegen/cuda/emit_stub.h"
#include "codegen/cuda/kernels/backward_params.cuh"
#include "codegen/cuda/table_use.h"
#include "compiler/export/c_source.h"
#include "ir/cuda_backward_plan.h"

namespace harrier {
namespace {

std::string quoted(const std::string& text) {
  if (text.empty()) return "NULL";
  std::string result = "\"";
  for (const char c : text) result += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return result + "\"";
}

std::string bits_of(float value) { return fmt::format("{:#x}", std::bit_cast<uint32_t>(value)); }

/// Sizes and offsets as the kernels' own headers have them.
std::string layout_checks() {
  std::string text = "// Kernels were compiled with these layouts.\n";
  const auto check = [&](const std::string& what, size_t value, const char* type) {
    text += fmt::format("_Static_assert({} == {}, \"{} is not what kernels read\");\n", what, value, type);
  };
#define HARRIER_SIZE(Type) check("sizeof(" #Type ")", sizeof(Type), #Type)
#define HARRIER_FIELD(Type, field) check("offsetof(" #Type ", " #field ")", offsetof(Type, field), #Type)
  HARRIER_SIZE(TensorMap);
  HARRIER_SIZE(DeviceArray);
  HARRIER_FIELD(DeviceArray, strides);
  HARRIER_SIZE(PatternArguments);
  HARRIER_FIELD(PatternArguments, floats);
  HARRIER_FIELD(PatternArguments, arrays);
  HARRIER_SIZE(SequenceTable);
  HARRIER_FIELD(SequenceTable, cu_key);
  HARRIER_FIELD(SequenceTable, query_valid);
  HARRIER_FIELD(SequenceTable, key_valid);
  HARRIER_FIELD(SequenceTable, query_length);
  HARRIER_FIELD(SequenceTable, key_length);
  HARRIER_SIZE(KeyLists);
  HARRIER_FIELD(KeyLists, row_end);
  HARRIER_FIELD(KeyLists, partial_tiles);
  HARRIER_FIELD(KeyLists, entries);
  HARRIER_FIELD(KeyLists, rows_per_head);
  HARRIER_FIELD(KeyLists, rows_per_batch);
  HARRIER_SIZE(WorkItem);
  HARRIER_SIZE(SplitRow);
  HARRIER_SIZE(TensorRows);
  HARRIER_FIELD(TensorRows, batch_stride);
  HARRIER_FIELD(TensorRows, token_stride);
  HARRIER_FIELD(TensorRows, head_stride);
  HARRIER_FIELD(TensorRows, columns);
  HARRIER_SIZE(ForwardParams);
  HARRIER_FIELD(ForwardParams, key);
  HARRIER_FIELD(ForwardParams, value);
  HARRIER_FIELD(ForwardParams, output);
  HARRIER_FIELD(ForwardParams, query_rows);
  HARRIER_FIELD(ForwardParams, key_rows);
  HARRIER_FIELD(ForwardParams, value_rows);
  HARRIER_FIELD(ForwardParams, output_rows);
  HARRIER_FIELD(ForwardParams, arguments);
  HARRIER_FIELD(ForwardParams, sequences);
  HARRIER_FIELD(ForwardParams, lists);
  HARRIER_FIELD(ForwardParams, order);
  HARRIER_FIELD(ForwardParams, order_length);
  HARRIER_FIELD(ForwardParams, work_count);
  HARRIER_FIELD(ForwardParams, heads);
  HARRIER_FIELD(ForwardParams, heads_per_kv_head);
  HARRIER_FIELD(ForwardParams, heads_per_group);
  HARRIER_FIELD(ForwardParams, counter);
  HARRIER_FIELD(ForwardParams, lse);
  HARRIER_FIELD(ForwardParams, lse_batch_stride);
  HARRIER_FIELD(ForwardParams, lse_head_stride);
  HARRIER_FIELD(ForwardParams, lse_token_stride);
  HARRIER_FIELD(ForwardParams, split_output);
  HARRIER_FIELD(ForwardParams, split_lse);
  HARRIER_FIELD(ForwardParams, score_scale);
  HARRIER_FIELD(ForwardParams, padding_score);
  HARRIER_FIELD(ForwardParams, split_shown);
  HARRIER_SIZE(BlockTable);
  HARRIER_FIELD(BlockTable, offsets);
  HARRIER_FIELD(BlockTable, counts);
  HARRIER_FIELD(BlockTable, batch_stride);
  HARRIER_FIELD(BlockTable, head_stride);
  HARRIER_FIELD(BlockTable, row_stride);
  HARRIER_FIELD(BlockTable, kind);
  HARRIER_FIELD(BlockTable, element_bytes);
  HARRIER_FIELD(BlockTable, offset_bytes);
  HARRIER_FIELD(BlockTable, block);
  HARRIER_FIELD(BlockTable, random);
  HARRIER_FIELD(BlockTable, counted);
  HARRIER_SIZE(BuildState);
  HARRIER_FIELD(BuildState, order_length);
  HARRIER_FIELD(BuildState, split_count);
  HARRIER_SIZE(ListParams);
  HARRIER_FIELD(ListParams, sequences);
  HARRIER_FIELD(ListParams, table);
  HARRIER_FIELD(ListParams, row_begin);
  HARRIER_FIELD(ListParams, row_end);
  HARRIER_FIELD(ListParams, partial_tiles);
  HARRIER_FIELD(ListParams, entries);
  HARRIER_FIELD(ListParams, entry_capacity);
  HARRIER_FIELD(ListParams, entries_per_row);
  HARRIER_FIELD(ListParams, batches);
  HARRIER_FIELD(ListParams, rows_per_head);
  HARRIER_FIELD(ListParams, rows_per_batch);
  HARRIER_FIELD(ListParams, state);
  HARRIER_SIZE(RowMeasure);
  HARRIER_SIZE(RowTotals);
  HARRIER_SIZE(OrderParams);
  HARRIER_FIELD(OrderParams, sequences);
  HARRIER_FIELD(OrderParams, lists);
  HARRIER_FIELD(OrderParams, batches);
  HARRIER_FIELD(OrderParams, heads);
  HARRIER_FIELD(OrderParams, heads_per_group);
  HARRIER_FIELD(OrderParams, rows_per_head);
  HARRIER_FIELD(OrderParams, rows_per_batch);
  HARRIER_FIELD(OrderParams, measured_heads);
  HARRIER_FIELD(OrderParams, split_tiles);
  HARRIER_FIELD(OrderParams, split_capacity);
  HARRIER_FIELD(OrderParams, rows);
  HARRIER_FIELD(OrderParams, totals);
  HARRIER_FIELD(OrderParams, order);
  HARRIER_FIELD(OrderParams, split_rows);
  HARRIER_FIELD(OrderParams, state);
  HARRIER_SIZE(QueryLists);
  HARRIER_FIELD(QueryLists, column_end);
  HARRIER_FIELD(QueryLists, partial_tiles);
  HARRIER_FIELD(QueryLists, entries);
  HARRIER_FIELD(QueryLists, columns_per_head);
  HARRIER_FIELD(QueryLists, columns_per_batch);
  HARRIER_SIZE(WorkOrder);
  HARRIER_FIELD(WorkOrder, count);
  HARRIER_FIELD(WorkOrder, counter);
  HARRIER_SIZE(BackwardParams);
  HARRIER_FIELD(BackwardParams, key);
  HARRIER_FIELD(BackwardParams, value);
  HARRIER_FIELD(BackwardParams, d_output);
  HARRIER_FIELD(BackwardParams, query_rows);
  HARRIER_FIELD(BackwardParams, key_rows);
  HARRIER_FIELD(BackwardParams, value_rows);
  HARRIER_FIELD(BackwardParams, output_rows);
  HARRIER_FIELD(BackwardParams, d_output_rows);
  HARRIER_FIELD(BackwardParams, d_query_rows);
  HARRIER_FIELD(BackwardParams, d_key_rows);
  HARRIER_FIELD(BackwardParams, d_value_rows);
  HARRIER_FIELD(BackwardParams, arguments);
  HARRIER_FIELD(BackwardParams, sequences);
  HARRIER_FIELD(BackwardParams, key_lists);
  HARRIER_FIELD(BackwardParams, query_lists);
  HARRIER_FIELD(BackwardParams, rows);
  HARRIER_FIELD(BackwardParams, columns);
  HARRIER_FIELD(BackwardParams, heads);
  HARRIER_FIELD(BackwardParams, heads_per_kv_head);
  HARRIER_FIELD(BackwardParams, batches);
  HARRIER_FIELD(BackwardParams, rows_per_batch);
  HARRIER_FIELD(BackwardParams, tile_places);
  HARRIER_FIELD(BackwardParams, lse);
  HARRIER_FIELD(BackwardParams, lse_batch_stride);
  HARRIER_FIELD(BackwardParams, lse_head_stride);
  HARRIER_FIELD(BackwardParams, lse_token_stride);
  HARRIER_FIELD(BackwardParams, log2_lse);
  HARRIER_FIELD(BackwardParams, delta);
  HARRIER_FIELD(BackwardParams, d_query_sums);
  HARRIER_FIELD(BackwardParams, column_parts);
  HARRIER_FIELD(BackwardParams, row_parts);
  HARRIER_FIELD(BackwardParams, d_arrays);
  HARRIER_FIELD(BackwardParams, score_scale);
  HARRIER_FIELD(BackwardParams, slope);
  HARRIER_FIELD(BackwardParams, padding_score);
  HARRIER_FIELD(BackwardParams, turns);
  HARRIER_FIELD(BackwardParams, entry_turns);
  HARRIER_SIZE(TransposeParams);
  HARRIER_FIELD(TransposeParams, rows);
  HARRIER_FIELD(TransposeParams, column_begin);
  HARRIER_FIELD(TransposeParams, column_end);
  HARRIER_FIELD(TransposeParams, partial_tiles);
  HARRIER_FIELD(TransposeParams, entries);
  HARRIER_FIELD(TransposeParams, entry_capacity);
  HARRIER_FIELD(TransposeParams, batches);
  HARRIER_FIELD(TransposeParams, columns);
  HARRIER_FIELD(TransposeParams, columns_per_head);
  HARRIER_FIELD(TransposeParams, columns_per_batch);
  HARRIER_FIELD(TransposeParams, state);
  HARRIER_FIELD(TransposeParams, entry_turns);
  HARRIER_SIZE(ColumnOrderParams);
  HARRIER_FIELD(ColumnOrderParams, sequences);
  HARRIER_FIELD(ColumnOrderParams, lists);
  HARRIER_FIELD(ColumnOrderParams, heads_per_kv_head);
  HARRIER_FIELD(ColumnOrderParams, rows_per_batch);
#undef HARRIER_FIELD
#undef HARRIER_SIZE
  check("kDenseTable", static_cast<size_t>(TableKind::kDense), "a table's kind");
  check("kListTable", static_cast<size_t>(TableKind::kLists), "a table's kind");
  check("kBigBirdTable", static_cast<size_t>(TableKind::kBigBird), "a table's kind");
  check("kSectionRows", kSectionRows, "kSectionRows");
  check("-kPackedRows", static_cast<size_t>(-kPackedRows), "kPackedRows");
  check("1 << kRaggedLog2", kRaggedTokens, "kRaggedLog2");
  return text + "\n";
}

std::string image_text(size_t number, const std::vector<char>& image) {
  constexpr size_t kWordsOfLine = 6;
  std::string text = fmt::format("static const uint64_t kImage{}[] = {{", number);
  for (size_t at = 0; at < image.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, image.data() + at, std::min(sizeof word, image.size() - at));
    text += at / sizeof word % kWordsOfLine == 0 ? "\n    " : " ";
    text += fmt::format("{:#x},", word);
  }
  return text + "\n};\n";
}

std::string images_text(const KernelExport& kernels) {
  static_assert(std::endian::native == std::endian::little, "machine code is written as little-endian words");
  std::string text;
  std::string table = "\nstatic const Image kImages[] = {\n";
  for (size_t i = 0; i < kernels.images.size(); ++i) {
    text += image_text(i, kernels.images[i].image);
    table += fmt::format("    {{kImage{}, {}}},\n", i, kernels.images[i].image.size());
  }
  return text + table + "};\n\n";
}

std::string kernel_text(const ExportedKernel& kernel, const ExportedWorkload& workload) {
  const CudaPlan& plan = kernel.compilation.plan;
  const Shape& shape = kernel.compilation.workload.shape;
  const LoweredPattern lowered = cuda_pattern(kernel.compilation.lowered, plan);
  const bool sparse = workload.table.kind != TableKind::kNone && plan.row_blocks <= 1 &&
                      workload.table.block % plan.box_rows == 0 && (needs_table(lowered) || is_table_alone(lowered));
  const CudaSchedule schedule = kernel.schedule.value_or(CudaSchedule{});
  const bool backward = shape.direction == Direction::kBackward;
  std::string text = fmt::format("    {{.description = {},\n", quoted(describe(kernel)));
  text +=
      fmt::format("     .kernel_image = {},\n     .builder_image = {},\n", kernel.kernel_image, kernel.builder_image);
  const auto number = [&](const char* name, int64_t value) { text += fmt::format("     .{} = {},\n", name, value); };
  number("backward", backward ? 1 : 0);
  number("maps", plan.family == CudaFamily::kSm90 ? 1 : 0);
  number("lists", key_source_of(lowered) == CudaKeySource::kLists ? 1 : 0);
  number("heads_differ", names_head(lowered) ? 1 : 0);
  number("sparse_lists", sparse ? 1 : 0);
  number("tile_q", row_queries(plan));
  number("tile_k", plan.tile_k);
  number("box_rows", plan.box_rows);
  number("threads", backward ? backward_threads(plan) : cuda_threads(plan));
  number("shared_bytes", shared_bytes(plan, shape));
  number("deterministic", backward && shape.deterministic ? 1 : 0);
  number("turns_of_tile", backward ? turns_of_tile(plan) : 0);
  number("builder_shared_bytes", builder_shared_bytes(kernel.compilation.lowered, plan));
  const bool learns = backward && !kernel.compilation.slopes.in_loads.empty();
  number("arrays_threads", learns ? backward_arrays_threads(plan) : 0);
  number("arrays_shared_bytes", learns ? backward_arrays_bytes(plan, shape) : 0);
  const float slope = slope_of(kernel, workload);
  text +=
      fmt::format("     .score_scale_bits = {},\n     .slope_bits = {},\n", bits_of(kLog2OfE * slope), bits_of(slope));
  number("has_schedule", kernel.schedule ? 1 : 0);
  number("heads_per_group", schedule.heads_per_group);
  number("split_tiles", schedule.split_tiles);
  number("split_capacity", schedule.split_capacity);
  return text + "    },\n";
}

/// The kernels and the trees of a workload, and its table of targets.
std::string targets_text(size_t number, const ExportedWorkload& workload) {
  std::string text;
  std::string table = fmt::format("static const TargetFacts kTargets{}[] = {{\n", number);
  for (size_t t = 0; t < workload.targets.size(); ++t) {
    const ExportedTarget& target = workload.targets[t];
    text += fmt::format("static const KernelFacts kKernels{}_{}[] = {{\n", number, t);
    for (const ExportedKernel& kernel : target.kernels) text += kernel_text(kernel, workload);
    text += fmt::format("}};\n\nstatic const TreeNode kTree{}_{}[] = {{\n", number, t);
    for (const LengthTreeNode& node : target.tree) {
      text += fmt::format("    {{{}, {}, {}, {}}},\n", node.dimension, node.limit, node.below, node.above);
    }
    text += "};\n\n";
    const char* kind = target.architecture.starts_with("compute_") ? "kTextTarget"
                       : target.architecture.ends_with('a')        ? "kExactTarget"
                                                                   : "kFamilyTarget";
    const int capability = std::atoi(target.architecture.c_str() + target.architecture.find('_') + 1);
    table += fmt::format("    {{\"{}\", {}, {}, kKernels{}_{}, {}, kTree{}_{}}},\n", target.architecture, kind,
                         capability, number, t, target.kernels.size(), number, t);
  }
  return text + table + "};\n\n";
}

std::string arrays_text(size_t number, const ExportedWorkload& workload) {
  static constexpr const char* kRoles[] = {"kBitsArray", "kBiasArray", "kSegmentArray", "kPerHeadArray"};
  static constexpr const char* kGradients[] = {"kNoGradient", "kGradientOfLoads", "kGradientOfSink"};
  if (workload.arrays.empty()) return "";
  std::string text = fmt::format("static const ArrayFacts kArrays{}[] = {{\n", number);
  for (const ExportedArray& array : workload.arrays) {
    text += fmt::format("    {{{}, {}, {}, {}}},\n", quoted(array.name), kRoles[static_cast<size_t>(array.role)],
                        array.head_dimensions, kGradients[static_cast<size_t>(array.gradient)]);
  }
  return text + "};\n\n";
}

std::string workload_text(size_t number, const ExportedWorkload& workload) {
  const Shape& shape = workload.shape;
  const ExportedTable& table = workload.table;
  std::vector<std::string> floats;
  for (const float value : workload.floats) floats.push_back(bits_of(value));
  const auto list = [](const auto& values) {
    return values.empty() ? "0" : fmt::format("{}", fmt::join(values, ", "));
  };
  std::string text = fmt::format("    {{.name = {},\n", quoted(workload.workload.name));
  text += fmt::format("     .heads = {},\n     .kv_heads = {},\n     .head_dim = {},\n     .value_dim = {},\n",
                      shape.heads, shape.kv_heads, shape.head_dim, shape.value_dim);
  text += fmt::format("     .bfloat16 = {},\n     .pruned_as_zero = {},\n     .padding_score_bits = {},\n",
                      shape.dtype == DataType::kBFloat16 ? 1 : 0, workload.pruned_as_zero ? 1 : 0,
                      bits_of(workload.padding_score));
  text += fmt::format("     .integers = {{{}}},\n     .float_bits = {{{}}},\n", list(workload.integers), list(floats));
  if (!workload.arrays.empty()) {
    text += fmt::format("     .arrays = kArrays{},\n     .array_count = {},\n", number, workload.arrays.size());
  }
  text += fmt::format("     .table = {{{}, {}, {}, {}, {}, {}}},\n", static_cast<int>(table.kind), quoted(table.data),
                      quoted(table.offsets), table.block, table.random, table.counted ? 1 : 0);
  return text +
         fmt::format("     .targets = kTargets{},\n     .target_count = {}}},\n", number, workload.targets.size());
}

}  // namespace

std::string c_tables(const KernelExport& kernels) {
  std::string text = layout_checks() + images_text(kernels);
  std::string table = "static const WorkloadFacts kWorkloads[] = {\n";
  size_t count = 0;
  for (size_t i = 0; i < kernels.workloads.size(); ++i) {
    const ExportedWorkload& workload = kernels.workloads[i];
    text += targets_text(i, workload) + arrays_text(i, workload);
    table += workload_text(i, workload);
    for (const ExportedTarget& target : workload.targets) count += target.kernels.size();
  }
  text += table + "};\n\n";
  text += fmt::format("static const ExportFacts kExport = {{kImages, {}, kWorkloads, {}, {}}};\n",
                      kernels.images.size(), kernels.workloads.size(), count);
  return text;
}

}  // namespace harrier
