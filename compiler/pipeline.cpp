#include "compiler/pipeline.h"

#include <fmt/core.h>

#include <algorithm>

#include "compiler/cuda/cuda_pipeline.h"
#include "compiler/passes/choose_plan.h"
#include "compiler/passes/differentiate.h"
#include "compiler/passes/lower_pattern.h"
#include "compiler/passes/simplify.h"
#include "ir/error.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace harrier {
namespace {

void run_simplify(Compilation& state) { state.workload.pattern = simplify(state.workload.pattern); }

void verify_simplify(const Compilation& state) {
  verify(state.workload.pattern);
  HARRIER_CHECK(simplify(state.workload.pattern) == state.workload.pattern, "simplify must reach a fixed point");
}

std::string print_simplify(const Compilation& state) { return print(state.workload.pattern); }

void run_choose_plan(Compilation& state) { state.plan = choose_cpu_plan(state.workload, state.target); }

void verify_choose_plan(const Compilation& state) {
  const CpuPlan& plan = state.plan;
  HARRIER_CHECK(plan.tile_q > 0 && plan.tile_k > 0, "tiles must hold at least one query and one key");
  const int accumulators = plan.q_vectors * std::max(plan.key_block, plan.value_block);
  HARRIER_CHECK(accumulators + plan.q_vectors + 1 <= state.target.vector_registers,
                "a register block must fit the vector registers");
}

std::string print_choose_plan(const Compilation& state) { return print(state.plan) + "\n"; }

void run_lower_pattern(Compilation& state) {
  state.lowered = lower_pattern(state.workload.pattern, state.workload.shape);
}

void verify_lower_pattern(const Compilation& state) {
  const LoweredPattern& lowered = state.lowered;
  HARRIER_CHECK(type_of(lowered.score) == ExpressionType::kFloat, "a score must be a float");
  HARRIER_CHECK(!lowered.visible || type_of(*lowered.visible) != ExpressionType::kFloat,
                "a multiplicity must be a bool or an integer");
}

std::string print_lower_pattern(const Compilation& state) { return print(state.lowered); }

void run_differentiate(Compilation& state) {
  if (state.workload.shape.direction == Direction::kBackward) state.slopes = differentiate(state.lowered);
}

void verify_differentiate(const Compilation& state) {
  HARRIER_CHECK(type_of(state.slopes.in_dot) == ExpressionType::kFloat, "a slope must be a float");
  for (const LoadSlope& each : state.slopes.in_loads) {
    HARRIER_CHECK(type_of(each.slope) == ExpressionType::kFloat, "a slope must be a float");
  }
}

std::string print_differentiate(const Compilation& state) {
  const bool is_backward = state.workload.shape.direction == Direction::kBackward;
  return is_backward ? print(state.slopes) : "nothing: the kernel is a forward one\n";
}

void run_bind(LaunchState& state) {
  const Compilation& compilation = *state.compilation;
  const Pattern& pattern = compilation.workload.pattern;
  state.bound = harrier::bind(pattern, compilation.workload.shape, compilation.lowered, *state.geometry,
                              without_needless(pattern, compilation.array_names, *state.bindings));
}

void verify_bind(const LaunchState& state) {
  HARRIER_CHECK(state.bound.arrays.size() == state.compilation->lowered.arrays.size(),
                "every array slot must be bound");
}

std::string print_bind(const LaunchState& state) {
  std::string text;
  const std::vector<ArraySlot>& slots = state.compilation->lowered.arrays;
  for (size_t i = 0; i < slots.size(); ++i) {
    const int64_t* strides = state.bound.arrays[i].strides;
    text +=
        fmt::format("array {} strides {} {} {} {}\n", slots[i].name, strides[0], strides[1], strides[2], strides[3]);
  }
  for (const BlockLists& table : state.bound.tables) {
    text += fmt::format("table size {} row_blocks {} heads {} batches {} entries {}\n", table.size, table.row_blocks,
                        table.heads, table.batches, table.blocks.size());
  }
  return text;
}

void run_classify_tiles(LaunchState& state) {
  const Compilation& compilation = *state.compilation;
  state.tiles = classify_tiles(compilation.workload.pattern, compilation.workload.shape, state.bound, *state.geometry,
                               compilation.plan.tile_q, compilation.plan.tile_k);
}

void verify_classify_tiles(const LaunchState& state) {
  const TileMap& tiles = state.tiles;
  HARRIER_CHECK(tiles.first_row.size() == state.geometry->sequences.size() + 1, "every sequence must have its rows");
  HARRIER_CHECK(tiles.run_offsets.size() == static_cast<size_t>(tiles.first_row.back()) + 1,
                "every row must have its runs");
}

std::string print_classify_tiles(const LaunchState& state) {
  const TileMap& tiles = state.tiles;
  std::string text;
  for (size_t row = 0; row + 1 < tiles.run_offsets.size(); ++row) {
    text += fmt::format("row {}:", row);
    for (int64_t i = tiles.run_offsets[row]; i < tiles.run_offsets[row + 1]; ++i) {
      const KeyRun& run = tiles.runs[static_cast<size_t>(i)];
      text += fmt::format(" [{}, {}) {}", run.begin, run.end,
                          run.count == 0 ? "partial" : fmt::format("full x{}", run.count));
    }
    text += "\n";
  }
  return text;
}

void run_schedule_rows(LaunchState& state) {
  const Shape& shape = state.compilation->workload.shape;
  state.order = schedule_rows(state.tiles, *state.geometry, shape.heads);
  if (shape.direction == Direction::kBackward) state.order = spread_rows(state.order, shape.heads / shape.kv_heads);
}

void verify_schedule_rows(const LaunchState& state) {
  const int64_t heads = state.compilation->workload.shape.heads;
  int64_t rows = 0;
  for (size_t b = 0; b < state.geometry->sequences.size(); ++b) {
    rows += state.tiles.row_tiles(static_cast<int64_t>(b)) * heads;
  }
  HARRIER_CHECK(static_cast<int64_t>(state.order.size()) == rows, "every row must be scheduled once");
}

std::string print_schedule_rows(const LaunchState& state) {
  std::string text;
  for (const ScheduledRow& row : state.order) {
    text += fmt::format("batch {} head {} tile {}\n", row.batch, row.head, row.tile);
  }
  return text;
}

}  // namespace

const std::vector<Pass<Compilation>>& compile_passes() {
  static const std::vector<Pass<Compilation>> kPasses = {
      {"simplify", "rewrite the mask by identities", run_simplify, verify_simplify, print_simplify},
      {"choose_plan", "choose tiles and register blocks", run_choose_plan, verify_choose_plan, print_choose_plan},
      {"lower_pattern", "mask and score as expressions", run_lower_pattern, verify_lower_pattern, print_lower_pattern},
      {"differentiate", "slopes of the score, for backward kernels", run_differentiate, verify_differentiate,
       print_differentiate},
  };
  return kPasses;
}

const std::vector<Pass<LaunchState>>& launch_passes() {
  static const std::vector<Pass<LaunchState>> kPasses = {
      {"bind", "check and prepare the arrays", run_bind, verify_bind, print_bind},
      {"classify_tiles", "find the full and partial key tiles of each row", run_classify_tiles, verify_classify_tiles,
       print_classify_tiles},
      {"schedule_rows", "order rows, longest first", run_schedule_rows, verify_schedule_rows, print_schedule_rows},
  };
  return kPasses;
}

std::vector<std::string> pass_names() {
  std::vector<std::string> names;
  for (const auto& pass : compile_passes()) names.emplace_back(pass.name);
  for (const auto& pass : launch_passes()) names.emplace_back(pass.name);
  for (const auto& pass : cuda_compile_passes()) {
    if (std::ranges::find(names, pass.name) == names.end()) names.emplace_back(pass.name);
  }
  return names;
}

}  // namespace harrier
