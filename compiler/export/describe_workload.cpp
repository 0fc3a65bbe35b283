// What a launcher must know of a pattern; the same as compiler/cuda/cuda_bind_on_device.cpp makes of it for one launch.
#include <fmt/format.h>

#include <algorithm>

#include "codegen/cuda/emit_stub.h"
#include "codegen/cuda/table_use.h"
#include "compiler/export/exported_kernels.h"
#include "ir/error.h"
#include "ir/match.h"
#include "ir/verify.h"

namespace harrier {
namespace {

[[noreturn]] void refuse_export(const std::string& name, const std::string& what) {
  throw InvalidInput(fmt::format("{} cannot be exported: {}", name, what));
}

/// Bit i: `array` is indexed by the head, and nothing but it, in dimension i.
unsigned head_dimensions(const Expression& expression, const std::string& array) {
  const auto again = [&](const Expression& operand) { return head_dimensions(operand, array); };
  return match(
      expression.node,
      [&](const Load& node) {
        unsigned dimensions = 0;
        for (size_t i = 0; i < node.indices.size(); ++i) {
          dimensions |= again(node.indices[i]);
          if (node.array == array && node.indices[i] == var::h()) dimensions |= 1U << i;
        }
        return dimensions;
      },
      [&](const Unary& node) { return again(*node.operand); },
      [&](const Binary& node) { return again(*node.left) | again(*node.right); },
      [&](const Select& node) { return again(*node.condition) | again(*node.if_true) | again(*node.if_false); },
      [](const auto&) { return 0U; });
}

ExportedArray array_of(const CudaCompilation& compilation, const ArraySlot& slot, const std::vector<ArrayUse>& uses) {
  const auto use = std::ranges::find(uses, slot.name, &ArrayUse::name);
  if (use == uses.end() || use->role == ArrayRole::kExpressionInt || use->role == ArrayRole::kExpressionFloat) {
    refuse_export(
        compilation.workload.name,
        fmt::format("@{} is read in a way that needs it on the host when it is bound: run this pattern through the "
                    "library",
                    slot.name.substr(0, slot.name.find('.'))));
  }
  ExportedArray array{.name = slot.name, .role = ExportedRole::kPerHead};
  if (use->role == ArrayRole::kBits) array.role = ExportedRole::kBits;
  if (use->role == ArrayRole::kBias) array.role = ExportedRole::kBias;
  if (use->role == ArrayRole::kSegment) array.role = ExportedRole::kSegment;
  const auto is_this = [&](const LoadSlope& each) { return each.load.array == slot.name; };
  if (std::ranges::any_of(compilation.slopes.in_loads, is_this)) array.gradient = ExportedGradient::kOfLoads;
  const bool is_sink = compilation.lowered.softmax == SoftmaxKind::kSinkLogit;
  if (is_sink && compilation.lowered.sink_logits == slot.name) array.gradient = ExportedGradient::kOfSink;
  if (compilation.lowered.visible) array.head_dimensions = head_dimensions(*compilation.lowered.visible, slot.name);
  return array;
}

void find_table(const std::string& workload, const Mask& mask, ExportedTable& table) {
  const auto in_each = [&](const std::vector<Mask>& operands) {
    for (const Mask& operand : operands) find_table(workload, operand, table);
  };
  match(
      mask.node,
      [&](const Blocks& blocks) {
        const bool dense = !blocks.table.empty();
        table = {.kind = dense ? TableKind::kDense : TableKind::kLists,
                 .data = dense ? blocks.table : blocks.indices,
                 .offsets = blocks.offsets,
                 .block = static_cast<int>(blocks.size),
                 .counted = blocks.counted};
      },
      [&](const BigBird& bigbird) {
        table = {.kind = TableKind::kBigBird,
                 .block = static_cast<int>(bigbird.block),
                 .random = static_cast<int>(bigbird.random),
                 .counted = true};
        if (const auto* source = std::get_if<BigBirdTable>(&bigbird.source)) table.data = source->array;
        if (std::holds_alternative<BigBirdSeed>(bigbird.source)) {
          refuse_export(workload,
                        "bigbird(seed=...) draws its blocks on the host for each length: give them as an array of "
                        "bigbird(table=...)");
        }
      },
      [&](const And& node) { in_each(node.operands); }, [&](const Or& node) { in_each(node.operands); },
      [&](const Not& node) { find_table(workload, *node.operand, table); }, [](const auto&) {});
}

}  // namespace

std::string describe(const ExportedKernel& kernel) {
  std::string text = kernel.compilation.target.architecture + ", " +
                     print(kernel.compilation.plan, kernel.compilation.workload.shape.direction);
  if (kernel.schedule) text += ", " + print(*kernel.schedule);
  return text;
}

float slope_of(const ExportedKernel& kernel, const ExportedWorkload& workload) {
  const std::optional<int> folded = folded_scale(kernel.compilation.lowered, kernel.compilation.plan);
  return folded ? workload.floats[static_cast<size_t>(*folded)] : 1.0F;
}

ExportedWorkload describe_workload(const CudaCompilation& compilation) {
  const Pattern& pattern = compilation.workload.pattern;
  ExportedWorkload exported{.workload = compilation.workload, .shape = compilation.workload.shape};
  // Kernels count on integers whose sums do not wrap.
  constexpr int64_t kMostInteger = 1 << 30;
  for (const int64_t value : compilation.pattern.int_values) {
    exported.integers.push_back(static_cast<int>(std::clamp(value, -kMostInteger, kMostInteger)));
  }
  for (const double value : compilation.pattern.float_values) exported.floats.push_back(static_cast<float>(value));
  if (const auto* additive = std::get_if<PaddingAdditive>(&pattern.padding)) {
    exported.padding_score = kLog2OfE * static_cast<float>(additive->value);
  }
  exported.pruned_as_zero = compilation.lowered.softmax == SoftmaxKind::kPrunedAsZero;
  const std::vector<ArrayUse> uses = array_uses(pattern);
  for (const ArraySlot& slot : compilation.pattern.arrays) exported.arrays.push_back(array_of(compilation, slot, uses));
  if (looks_tables_up(compilation.lowered, compilation.plan)) {
    refuse_export(
        compilation.workload.name,
        "its mask looks block tables up pair by pair, which needs them on the host: use one table whose blocks hold "
        "rows of 64 or 128 queries, or divide them");
  }
  find_table(compilation.workload.name, pattern.mask, exported.table);
  return exported;
}

}  // namespace harrier
