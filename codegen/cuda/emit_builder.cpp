#include "codegen/cuda/emit_builder.h"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/cuda/emit_score.h"
#include "codegen/cuda/key_intervals.h"
#include "codegen/cuda/segment_bounds.h"
#include "codegen/cuda/table_use.h"
#include "ir/cuda_backward_plan.h"
#include "ir/match.h"
#include "ir/text.h"

namespace harrier {
namespace {

// What ListBuilder::Shared holds for a chunk of boxes.
constexpr int64_t kChunkBoxes = 1024;
constexpr int64_t kChunkGroups = 32;
// What expand_table gathers at a time.
constexpr int64_t kExpandBytes = 4096;

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

int64_t boxes_per_tile(const CudaPlan& plan) { return plan.tile_k / plan.box_rows; }

bool mentions_head(const Expression& expression) {
  return match(
      expression.node, [](const Variable& node) { return node.kind == VariableKind::kHead; },
      [](const Unary& node) { return mentions_head(*node.operand); },
      [](const Binary& node) { return mentions_head(*node.left) || mentions_head(*node.right); },
      [](const Select& node) {
        return mentions_head(*node.condition) || mentions_head(*node.if_true) || mentions_head(*node.if_false);
      },
      [](const Load& node) {
        return std::ranges::any_of(node.indices, [](const Expression& index) {
          // A plain h is an index along the dimension of heads, which may have stride 0.
          return !std::holds_alternative<Variable>(index.node) && mentions_head(index);
        });
      },
      [](const auto&) { return false; });
}

/// What ListBuilder wants to know; see kernels/build_lists.cuh.
std::string lists_text(const LoweredPattern& lowered, const CudaPlan& plan) {
  const bool table = lowered.table_slots > 0;
  bool exact = false;
  if (table && lowered.visible) {
    const KeyIntervals named_once = key_intervals(with_table_count(*lowered.visible, 1));
    exact = named_once.exact && named_once.intervals == key_intervals(lowered.visible).intervals;
  }
  const auto line = [](const char* type, const char* name, const auto& value) {
    return fmt::format("  static constexpr {} {} = {};\n", type, name, value);
  };
  return "struct Lists {\n" + line("bool", "kTable", table) + line("int", "kRowBlocks", table ? plan.row_blocks : 1) +
         line("bool", "kNeedsTable", needs_table(lowered)) + line("bool", "kPredicate", !is_table_alone(lowered)) +
         line("bool", "kExact", exact) + "};\n\n";
}

std::string entry_text(const char* name, const char* params, const std::string& body) {
  return fmt::format(
      "extern \"C\" __global__ void __launch_bounds__(harrier::kBuildThreads, 4) {}(\n"
      "    const __grid_constant__ harrier::{} params) {{\n{}}}\n",
      name, params, body);
}

/// What a backward pass has beside.
std::string column_entries(bool lists, bool ordered) {
  std::string text;
  if (lists) {
    text += entry_text(kCudaTransposeName, "TransposeParams",
                       fmt::format("  harrier::ListTransposer<harrier::Config, {}>(params).run();\n", ordered)) +
            "\n";
  }
  text += entry_text(kCudaMeasureColumnsName, "ColumnOrderParams",
                     fmt::format("  using Queries = harrier::{}<harrier::Config, harrier::Mask>;\n"
                                 "  harrier::measure_columns<harrier::Config, harrier::Mask, Queries>(params);\n",
                                 ordered ? "OrderedQueries" : "QuerySource")) +
          "\n";
  if (ordered) {
    text += entry_text(kCudaCutColumnsName, "OrderParams", "  harrier::cut_columns<harrier::Config>(params);\n") + "\n";
  }
  return text + entry_text(kCudaOrderColumnsName, "OrderParams",
                           "  harrier::order_rows<harrier::ColumnPlaces<harrier::Config>>(params);\n");
}

/// What a forward pass has beside.
std::string combine_entry() {
  return fmt::format(
      "extern \"C\" __global__ void __launch_bounds__(32 * harrier::kCombineWarps) {}(\n"
      "    const __grid_constant__ harrier::ForwardParams params, const harrier::SplitRow* split_rows,\n"
      "    const int* split_count) {{\n"
      "  harrier::combine<harrier::Config, harrier::Mask, harrier::Sink>(params, split_rows, split_count);\n}}\n",
      kCudaCombineName);
}

constexpr const char* kSharedMemory = "  extern __shared__ __align__(16) unsigned char memory[];\n";

}  // namespace

std::string emit_cuda_builder(const LoweredPattern& pattern, const Shape& shape, const CudaPlan& plan) {
  verify(plan, shape);
  const LoweredPattern lowered = cuda_pattern(pattern, plan);
  const bool lists = key_source_of(lowered) == CudaKeySource::kLists;
  const bool backward = shape.direction == Direction::kBackward;
  const bool bounds =
      std::ranges::any_of(lowered.arrays, [](const ArraySlot& slot) { return is_segment_bound(slot.name); });
  std::string text = fmt::format("// Made by Harrier for the lists and the order of work. Pattern:\n{}",
                                 commented(structural_text(lowered)));
  text += fmt::format("// Rows of {} queries, key tiles of {} in boxes of {}\n", row_queries(plan), plan.tile_k,
                      plan.box_rows);
  if (lists) text += "#include \"codegen/cuda/kernels/build_lists.cuh\"\n";
  if (backward) text += "#include \"codegen/cuda/kernels/build_columns.cuh\"\n";
  text += "#include \"codegen/cuda/kernels/build_order.cuh\"\n";
  if (!backward) text += "#include \"codegen/cuda/kernels/combine.cuh\"\n";
  if (looks_tables_up(pattern, plan)) text += "#include \"codegen/cuda/kernels/expand_table.cuh\"\n";
  if (bounds) text += "#include \"codegen/cuda/kernels/segment_bounds.cuh\"\n";
  text += "#include \"codegen/cuda/kernels/language.cuh\"\n\nnamespace harrier {\n\n";
  text += emit_cuda_mask(lowered, plan, MaskUse::kBuilder);
  if (!backward) text += emit_cuda_sink(lowered);
  text += fmt::format(
      "struct Config {{\n  static constexpr int kValueDim = {};\n  static constexpr bool kBFloat16 = {};\n"
      "  static constexpr int kTileQ = {};\n  static constexpr int kTileK = {};\n"
      "  static constexpr int kBoxRows = {};\n  static constexpr KeySourceKind kKeySource = "
      "KeySourceKind::{};\n}};\n\n",
      padded_dim(shape.value_dim), shape.dtype == DataType::kBFloat16, row_queries(plan), plan.tile_k, plan.box_rows,
      lists ? "kLists" : "kClosedForm");
  if (lists) {
    text += lists_text(lowered, plan);
    text += fmt::format(
        "using Builder = ListBuilder<Config, Mask, Lists>;\n"
        "static_assert(sizeof(Builder::Shared) == {}, \"the host and the kernel disagree on shared memory\");\n\n",
        builder_shared_bytes(pattern, plan));
  }
  text += "}  // namespace harrier\n\n";
  if (lists) {
    text +=
        entry_text(kCudaListsName, "ListParams",
                   std::string(kSharedMemory) +
                       "  harrier::Builder(params, *reinterpret_cast<harrier::Builder::Shared*>(memory)).run();\n") +
        "\n";
  }
  if (looks_tables_up(pattern, plan)) {
    text += entry_text(kCudaExpandName, "ExpandParams",
                       std::string(kSharedMemory) +
                           "  harrier::expand_table(params, reinterpret_cast<harrier::uint32*>(memory));\n") +
            "\n";
  }
  if (bounds) text += entry_text(kCudaSegmentsName, "SegmentParams", "  harrier::segment_bounds(params);\n") + "\n";
  text += entry_text(kCudaMeasureName, "OrderParams",
                     "  harrier::measure_rows<harrier::Config, harrier::Mask>(params);\n") +
          "\n";
  text += entry_text(kCudaCutName, "OrderParams", "  harrier::cut_rows(params);\n") + "\n";
  text += entry_text(kCudaOrderName, "OrderParams", "  harrier::order_rows<harrier::Config>(params);\n");
  return text + "\n" + (backward ? column_entries(lists, adds_in_turn(plan)) : combine_entry());
}

bool names_head(const LoweredPattern& lowered) { return lowered.visible && mentions_head(*lowered.visible); }

int64_t builder_shared_bytes(const LoweredPattern& lowered, const CudaPlan& plan) {
  const bool table = lowered.table_slots > 0 && !looks_tables_up(lowered, plan);
  const int64_t row_blocks = table ? plan.row_blocks : 1;
  return row_blocks * (kChunkBoxes + 4) + 4 * kChunkBoxes + 8 * kChunkGroups + 4;
}

int64_t expand_shared_bytes() { return kExpandBytes; }

int64_t list_rows(const BuilderShape& shape, const CudaPlan& plan) {
  const int64_t queries = row_queries(plan);
  if (shape.packed) return shape.query_tokens / queries + shape.batches;
  return divide_up(shape.query_tokens, queries) * (shape.lists_per_batch ? shape.batches : 1);
}

int64_t list_columns(int64_t key_tokens, int64_t batches, bool packed, const CudaPlan& plan) {
  return packed ? key_tokens / plan.tile_k + batches : divide_up(key_tokens, plan.tile_k) * batches;
}

int64_t dense_row_entries(const BuilderShape& shape, const CudaPlan& plan) {
  return divide_up(shape.most_keys, plan.tile_k) * boxes_per_tile(plan);
}

int64_t sparse_entries(int64_t named, int64_t sharers, int64_t rows, int64_t block, const CudaPlan& plan) {
  const int64_t boxes = block / plan.box_rows;
  const int64_t rows_of_block = std::max<int64_t>(block / row_queries(plan), 1);
  return sharers * named * boxes * rows_of_block + rows * (boxes_per_tile(plan) - 1);
}

int64_t order_capacity(int64_t rows, int64_t heads, int64_t split_capacity) { return rows * heads + split_capacity; }

int64_t order_totals(int64_t rows, int64_t heads, int64_t heads_per_group, int64_t measured_heads) {
  constexpr int64_t kSectionRows = 4096;
  return divide_up(rows, kSectionRows) * (measured_heads == 1 ? 1 : divide_up(heads, heads_per_group));
}

}  // namespace harrier
