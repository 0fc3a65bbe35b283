#include "compiler/cuda/build_on_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/cuda/emit_builder.h"
#include "codegen/cuda/table_use.h"
#include "compiler/cuda/arena.h"
#include "ir/ceil_div.h"
#include "ir/error.h"
#include "ir/match.h"

namespace harrier {
namespace {

constexpr int64_t kMostEntries = std::numeric_limits<int32_t>::max();
constexpr int64_t kRowsOfCta = kCudaBuildThreads / 32;

/// Whether an array that the mask reads has other elements for other heads.
bool array_differs_by_head(const Expression& expression, const LoweredPattern& lowered, const BoundPattern& pattern) {
  const auto again = [&](const Expression& operand) { return array_differs_by_head(operand, lowered, pattern); };
  return match(
      expression.node,
      [&](const Load& node) {
        for (size_t i = 0; i < node.indices.size(); ++i) {
          if (again(node.indices[i])) return true;
          if (!(node.indices[i] == var::h())) continue;
          for (size_t slot = 0; slot < lowered.arrays.size(); ++slot) {
            if (lowered.arrays[slot].name == node.array && pattern.arrays[slot].strides[i] != 0) return true;
          }
        }
        return false;
      },
      [&](const Unary& node) { return again(*node.operand); },
      [&](const Binary& node) { return again(*node.left) || again(*node.right); },
      [&](const Select& node) { return again(*node.condition) || again(*node.if_true) || again(*node.if_false); },
      [](const auto&) { return false; });
}

bool heads_differ(const BuildInputs& inputs, const LoweredPattern& lowered) {
  if (names_head(lowered) || inputs.table.head_stride != 0) return true;
  return lowered.visible && array_differs_by_head(*lowered.visible, lowered, inputs.pattern);
}

/// Entries of all rows of all heads with lists of their own, and of each row where rows have places of their own.
struct Capacity {
  int64_t all = 0;
  int64_t of_row = 0;
};

Capacity entry_capacity(const BuildInputs& inputs, const LoweredPattern& lowered, const BuilderShape& shape,
                        int64_t rows, int64_t heads) {
  const CudaPlan& plan = inputs.code.compilation.plan;
  const int64_t of_row = dense_row_entries(shape, plan);
  const Capacity dense{.all = of_row * rows * heads, .of_row = of_row};
  const bool named = inputs.table.kind != TableKind::kNone && plan.row_blocks <= 1 &&
                     inputs.table.block % plan.box_rows == 0 && (needs_table(lowered) || is_table_alone(lowered));
  if (!named) return dense;
  const int64_t sharers = std::max<int64_t>(1, inputs.table.batch_stride == 0 ? inputs.batches : 1) *
                          (inputs.table.head_stride == 0 ? heads : 1);
  const int64_t sparse = sparse_entries(inputs.named_pairs, sharers, rows * heads, inputs.table.block, plan);
  return sparse < dense.all ? Capacity{.all = sparse, .of_row = 0} : dense;
}

}  // namespace

DeviceBuild plan_build(const BuildInputs& inputs) {
  const CudaCompilation& compilation = inputs.code.compilation;
  const CudaPlan& plan = compilation.plan;
  const LoweredPattern lowered = cuda_pattern(compilation.lowered, plan);
  const int64_t heads = compilation.workload.shape.heads;
  DeviceBuild build;
  build.has_lists = key_source_of(lowered) == CudaKeySource::kLists;
  const BuilderShape shape{.batches = inputs.batches,
                           .query_tokens = inputs.query_tokens,
                           .most_keys = inputs.most_keys,
                           .packed = inputs.packed,
                           .lists_per_batch = true};
  build.rows = list_rows(shape, plan);
  const bool differ = heads_differ(inputs, lowered);
  build.list_heads = differ ? heads : 1;
  const int rows_per_head = static_cast<int>(build.rows);
  const int rows_per_batch =
      inputs.packed ? kPackedRows : static_cast<int>(ceil_div(inputs.query_tokens, row_queries(plan)));

  Arena arena;
  const int64_t totals = order_totals(build.rows, heads, inputs.schedule.heads_per_group, build.list_heads);
  const int64_t state_at = arena.add(sizeof(BuildState));
  const int64_t totals_at = arena.add(totals * static_cast<int64_t>(sizeof(RowTotals)));
  build.zeros_bytes = arena.bytes();
  const int64_t list_rows = build.has_lists ? build.rows * build.list_heads : 0;
  const Capacity entries =
      build.has_lists ? entry_capacity(inputs, lowered, shape, build.rows, build.list_heads) : Capacity{};
  if (entries.all > kMostEntries) {
    throw InvalidInput(
        fmt::format("the lists of key boxes may need {} entries, the limit is {}: use larger blocks or a "
                    "smaller batch",
                    entries.all, kMostEntries));
  }
  constexpr int64_t kInt = sizeof(int);
  const int64_t begin_at = arena.add(list_rows * kInt);
  const int64_t end_at = arena.add(list_rows * kInt);
  const int64_t partial_at = arena.add(list_rows * kInt);
  const int64_t entries_at = arena.add(entries.all * kInt);
  const bool splits = inputs.schedule.split_tiles > 0;
  const int64_t split_capacity = splits ? inputs.schedule.split_capacity : 0;
  build.order_items = order_capacity(build.rows, heads, split_capacity);
  const int64_t measures_at = arena.add(build.rows * build.list_heads * static_cast<int64_t>(sizeof(RowMeasure)));
  const int64_t order_at = arena.add(build.order_items * static_cast<int64_t>(sizeof(WorkItem)));
  const int64_t split_at = arena.add(split_capacity / 2 * static_cast<int64_t>(sizeof(SplitRow)));
  build.memory = cuda::DeviceMemory(inputs.code.gpu.device, arena.bytes());

  auto* state = at<BuildState>(build.memory, state_at);
  build.lists = {.arguments = inputs.arguments,
                 .sequences = inputs.sequences,
                 .table = inputs.table,
                 .row_begin = at<int>(build.memory, begin_at),
                 .row_end = at<int>(build.memory, end_at),
                 .partial_tiles = at<int>(build.memory, partial_at),
                 .entries = at<int>(build.memory, entries_at),
                 .entry_capacity = static_cast<int>(entries.all),
                 .entries_per_row = static_cast<int>(entries.of_row),
                 .batches = static_cast<int>(inputs.batches),
                 .rows_per_head = differ ? rows_per_head : 0,
                 .rows_per_batch = rows_per_batch,
                 .state = state};
  build.order = {.arguments = inputs.arguments,
                 .sequences = inputs.sequences,
                 .lists = {.row_begin = build.lists.row_begin,
                           .row_end = build.lists.row_end,
                           .partial_tiles = build.lists.partial_tiles,
                           .entries = build.lists.entries,
                           .rows_per_head = build.lists.rows_per_head,
                           .rows_per_batch = rows_per_batch},
                 .batches = static_cast<int>(inputs.batches),
                 .heads = static_cast<int>(heads),
                 .heads_per_group = inputs.schedule.heads_per_group,
                 .rows_per_head = rows_per_head,
                 .rows_per_batch = rows_per_batch,
                 .measured_heads = static_cast<int>(build.list_heads),
                 .split_tiles = inputs.schedule.split_tiles,
                 .split_capacity = static_cast<int>(split_capacity),
                 .rows = at<RowMeasure>(build.memory, measures_at),
                 .totals = at<RowTotals>(build.memory, totals_at),
                 .order = at<WorkItem>(build.memory, order_at),
                 .split_rows = at<SplitRow>(build.memory, split_at),
                 .state = state};
  if (compilation.workload.shape.direction == Direction::kBackward) {
    build.columns = plan_columns({.code = inputs.code,
                                  .rows = build.order,
                                  .entry_capacity = entries.all,
                                  .has_lists = build.has_lists,
                                  .key_tokens = inputs.key_tokens});
  }
  return build;
}

void enqueue_build(const CudaCode& code, const DeviceBuild& build, cuda::Stream stream) {
  if (build.rows == 0) {
    if (build.columns) enqueue_columns(code, *build.columns, stream);
    return;
  }
  const cuda::OpenDevice& device = *code.gpu.device;
  const cuda::Driver& driver = device.driver();
  cuda::check(driver, driver.fill_bytes(build.memory.pointer(), 0, static_cast<size_t>(build.zeros_bytes), stream),
              "clearing the builder's counters");
  if (build.has_lists) {
    ListParams lists = build.lists;
    void* parameters[] = {&lists};
    const cuda::LaunchShape shape{
        .grid_x = static_cast<unsigned>(build.rows),
        .grid_y = static_cast<unsigned>(build.list_heads),
        .threads = kCudaBuildThreads,
        .shared_bytes = builder_shared_bytes(code.compilation.lowered, code.compilation.plan)};
    cuda::enqueue(device, code.loaded->build_lists, shape, parameters, stream);
  }
  OrderParams order = build.order;
  void* parameters[] = {&order};
  const auto heads = static_cast<unsigned>(build.list_heads);
  const cuda::LaunchShape by_warp{.grid_x = static_cast<unsigned>(ceil_div(build.rows, kRowsOfCta)),
                                  .grid_y = heads,
                                  .threads = kCudaBuildThreads,
                                  .shared_bytes = 0};
  const cuda::LaunchShape by_thread{.grid_x = static_cast<unsigned>(ceil_div(build.rows, int64_t{kCudaBuildThreads})),
                                    .grid_y = heads,
                                    .threads = kCudaBuildThreads,
                                    .shared_bytes = 0};
  cuda::enqueue(device, code.loaded->measure_rows, by_warp, parameters, stream);
  cuda::enqueue(device, code.loaded->cut_rows, by_thread, parameters, stream);
  cuda::enqueue(device, code.loaded->order_rows, by_warp, parameters, stream);
  if (build.columns) enqueue_columns(code, *build.columns, stream);
}

}  // namespace harrier
