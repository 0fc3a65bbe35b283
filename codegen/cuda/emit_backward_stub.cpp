#include "codegen/cuda/emit_backward_stub.h"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/cuda/emit_expression.h"
#include "codegen/cuda/emit_mask.h"
#include "codegen/cuda/emit_score.h"
#include "codegen/cuda/table_use.h"
#include "ir/cuda_backward_plan.h"
#include "ir/match.h"
#include "ir/text.h"

namespace harrier {
namespace {

/// Whether an expression names the query, or the key.
bool names(const Expression& expression, bool key) {
  const auto again = [&](const Expression& operand) { return names(operand, key); };
  return match(
      expression.node,
      [&](const Variable& node) {
        return key ? node.kind == VariableKind::kKey || node.kind == VariableKind::kKeyToken
                   : node.kind == VariableKind::kQuery || node.kind == VariableKind::kQueryToken;
      },
      [&](const Load& node) { return std::ranges::any_of(node.indices, again); },
      [&](const Unary& node) { return again(*node.operand); },
      [&](const Binary& node) { return again(*node.left) || again(*node.right); },
      [&](const Select& node) { return again(*node.condition) || again(*node.if_true) || again(*node.if_false); },
      [](const auto&) { return false; });
}

const char* scope_of(const Load& load) {
  const bool by_query = names({load}, false), by_key = names({load}, true);
  if (by_query && by_key) return "kPair";
  return by_query ? "kQuery" : by_key ? "kKey" : "kHead";
}

/// A struct for each load of a score, and `Learned`, which names them all.
std::string learned_text(const LoweredPattern& lowered, const ScoreSlopes& slopes) {
  std::string text, all;
  for (size_t i = 0; i < slopes.in_loads.size(); ++i) {
    const LoadSlope& each = slopes.in_loads[i];
    text += fmt::format(
        "struct Load{0} {{  // {1}\n  static constexpr int kSlot = {2};\n"
        "  static constexpr LoadScope kScope = LoadScope::{3};\n"
        "  static __device__ __forceinline__ int64 place(const Position& at, int query, int key) {{\n"
        "    const Int q = query, k = key;\n    return {4};\n  }}\n"
        "  static __device__ __forceinline__ float slope(const Position& at, float s, int query, int key) {{\n"
        "    const Int q = query, k = key;\n    return {5};\n  }}\n}};\n",
        i, each.load.array, array_slot(lowered.arrays, each.load.array), scope_of(each.load),
        emit_cuda_place(each.load, lowered.arrays), emit_cuda_float(each.slope, lowered.arrays));
    all += fmt::format("{}Load{}", i == 0 ? "" : ", ", i);
  }
  return text.empty() ? text : text + fmt::format("using Learned = LearnedArrays<{}>;\n\n", all);
}

std::string backward_config_text(const LoweredPattern& lowered, const Shape& shape, const CudaPlan& plan) {
  std::string text = "struct Config {\n";
  const auto line = [&](const char* type, const char* name, const auto& value, const char* why = "") {
    text += fmt::format("  static constexpr {} {} = {};{}{}\n", type, name, value, *why ? "  // " : "", why);
  };
  line("int", "kHeadDim", padded_dim(shape.head_dim), "columns of Q and K, padded with zeros");
  line("int", "kValueDim", padded_dim(shape.value_dim));
  line("int", "kTileQ", row_queries(plan), "queries of a row");
  line("int", "kTileK", plan.tile_k, "keys of a column");
  line("int", "kBoxRows", plan.box_rows);
  line("int", "kStages", plan.stages, "buffers of the tiles that a row or column walks");
  if (plan.family == CudaFamily::kSm90) {
    line("int", "kConsumers", key_warpgroups(plan), "warpgroups, of 64 keys each");
    line("int", "kConsumerRegisters", plan.consumer_registers, "of a thread");
    line("int", "kProducerRegisters", plan.producer_registers);
    line("int", "kCtasPerSm", plan.ctas_per_sm);
    line("bool", "kDeterministic", plan.deterministic, "columns add to dQ in a fixed order");
  }
  line("bool", "kBFloat16", shape.dtype == DataType::kBFloat16);
  line("KeySourceKind", "kKeySource",
       key_source_of(lowered) == CudaKeySource::kLists ? "KeySourceKind::kLists" : "KeySourceKind::kClosedForm");
  return text + "};\n\n";
}

/// An entry of `threads` threads (an expression), of which `ctas` run side by side.
std::string entry_text(const char* name, const std::string& threads, int ctas, const std::string& call,
                       bool has_memory) {
  return fmt::format(
      "extern \"C\" __global__ void __launch_bounds__({}, {}) {}(\n"
      "    const __grid_constant__ harrier::BackwardParams params) {{\n{}  harrier::{};\n}}\n\n",
      threads, ctas, name, has_memory ? "  extern __shared__ __align__(1024) unsigned char memory[];\n" : "", call);
}

std::string join_text(const char* name, const char* function) {
  return fmt::format(
      "extern \"C\" __global__ void __launch_bounds__(harrier::kBuildThreads) {}(\n"
      "    const __grid_constant__ harrier::BackwardParams params, const harrier::SplitRow* split, const int* count) "
      "{{\n  harrier::{}<harrier::Config>(params, split, count);\n}}\n",
      name, function);
}

std::string entries_text(const ScoreSlopes& slopes, const CudaPlan& plan) {
  const bool sm90 = plan.family == CudaFamily::kSm90;
  const std::string threads = fmt::format("{}", backward_threads(plan));
  std::string stats = "backward_stats<harrier::Config, harrier::Sink>(params)";
  if (adds_in_turn(plan)) stats += ";\n  harrier::clear_turns<harrier::Config>(params)";
  std::string text = entry_text(kCudaStatsName, "harrier::kBuildThreads", 4, stats, false);
  text += entry_text(kCudaColumnsName, threads, plan.ctas_per_sm,
                     fmt::format("backward_columns{}<harrier::Config, harrier::Mask, harrier::Score>(params, memory)",
                                 sm90 ? "" : "_sm80"),
                     true);
  if (sm90) {
    text +=
        entry_text(kCudaQueriesName, "harrier::kFinishThreads", 4, "finish_queries<harrier::Config>(params)", false);
  } else {
    text += entry_text(kCudaRowsName, threads, plan.ctas_per_sm,
                       "backward_rows_sm80<harrier::Config, harrier::Mask, harrier::Score>(params, memory)", true);
  }
  if (!slopes.in_loads.empty()) {
    text += entry_text(kCudaArraysName, fmt::format("{}", backward_arrays_threads(plan)), 1,
                       "backward_columns_sm80<harrier::Config, harrier::Mask, harrier::Score, harrier::Learned>(\n"
                       "      params, memory)",
                       true);
  }
  text += join_text(kCudaJoinColumnsName, "join_columns");
  if (!sm90) text += "\n" + join_text(kCudaJoinRowsName, "join_rows");
  return text;
}

}  // namespace

bool learns_arrays(const LoweredPattern& lowered, const ScoreSlopes& slopes) {
  return !slopes.in_loads.empty() || lowered.softmax == SoftmaxKind::kSinkLogit;
}

std::string emit_cuda_backward_stub(const LoweredPattern& pattern, const ScoreSlopes& slopes, const Shape& shape,
                                    const CudaPlan& plan) {
  verify(plan, shape);
  const LoweredPattern lowered = cuda_pattern(pattern, plan);
  verify_slots(lowered);
  const bool sm90 = plan.family == CudaFamily::kSm90;
  std::string text =
      fmt::format("// Made by Harrier for {}. Pattern:\n{}// Shape: {}\n// Plan: {}\n", sm90 ? "sm_90a" : "sm_80",
                  commented(structural_text(lowered)), print(shape), print(plan, Direction::kBackward));
  if (!sm90 || !slopes.in_loads.empty()) text += "#include \"codegen/cuda/kernels/backward_sm80.cuh\"\n";
  if (sm90) {
    text +=
        "#include \"codegen/cuda/kernels/backward_sm90.cuh\"\n"
        "#include \"codegen/cuda/kernels/finish_queries.cuh\"\n";
  }
  text +=
      "#include \"codegen/cuda/kernels/backward_stats.cuh\"\n#include \"codegen/cuda/kernels/join_parts.cuh\"\n"
      "#include \"codegen/cuda/kernels/language.cuh\"\n\nnamespace harrier {\n\n";
  text += emit_cuda_mask(lowered, plan, MaskUse::kForward) + emit_cuda_score(lowered, plan, &slopes) +
          emit_cuda_sink(lowered, true) + learned_text(lowered, slopes) + backward_config_text(lowered, shape, plan);
  text += fmt::format(
      "static_assert({}<Config>::kBytes == {}, \"the plan and the kernel disagree on shared memory\");\n"
      "static_assert({}<Config>() == {}, \"the plan and the kernel disagree on threads\");\n",
      sm90 ? "ColumnLayout" : "BackwardLayoutSm80", shared_bytes(plan, shape),
      sm90 ? "backward_threads" : "backward_threads_sm80", backward_threads(plan));
  if (sm90 && !slopes.in_loads.empty()) {
    text += fmt::format(
        "static_assert(BackwardLayoutSm80<Config>::kBytes == {}, \"the plan and arrays disagree on shared memory\");\n",
        backward_arrays_bytes(plan, shape));
  }
  return text + "\n}  // namespace harrier\n\n" + entries_text(slopes, plan);
}

}  // namespace harrier
