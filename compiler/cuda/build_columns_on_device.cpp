#include "compiler/cuda/build_columns_on_device.h"

#include <algorithm>

#include "codegen/cuda/emit_builder.h"
#include "compiler/cuda/arena.h"
#include "ir/cuda_backward_plan.h"

namespace harrier {
namespace {

constexpr int64_t kColumnsOfCta = kCudaBuildThreads / 32;

/// Queries and keys exchanged: columns are the rows of such sequences.
SequenceTable exchanged(const SequenceTable& sequences) {
  return {.cu_query = sequences.cu_key,
          .cu_key = sequences.cu_query,
          .query_valid = sequences.key_valid,
          .key_valid = sequences.query_valid,
          .query_length = sequences.key_length,
          .key_length = sequences.query_length};
}

}  // namespace

ColumnBuild plan_columns(const ColumnInputs& inputs) {
  const CudaPlan& plan = inputs.code.compilation.plan;
  const Shape& shape = inputs.code.compilation.workload.shape;
  const OrderParams& rows = inputs.rows;
  const bool packed = rows.rows_per_batch == kPackedRows;
  const int64_t heads_per_kv_head = shape.heads / shape.kv_heads;
  ColumnBuild build;
  build.has_lists = inputs.has_lists;
  build.columns = list_columns(inputs.key_tokens, rows.batches, packed, plan);
  build.list_heads = rows.measured_heads;
  const int64_t measured_heads = build.list_heads == 1 ? 1 : shape.kv_heads;
  const int64_t heads_per_group = std::max<int64_t>(1, rows.heads_per_group / heads_per_kv_head);
  const int columns_per_batch = packed ? kPackedRows : static_cast<int>(ceil_div(inputs.key_tokens, plan.tile_k));

  Arena arena;
  const int64_t state_at = arena.add(sizeof(BuildState));
  const int64_t totals_at = arena.add(order_totals(build.columns, shape.kv_heads, heads_per_group, measured_heads) *
                                      static_cast<int64_t>(sizeof(RowTotals)));
  build.zeros_bytes = arena.bytes();
  constexpr int64_t kInt = sizeof(int);
  const int64_t lists = build.has_lists ? build.columns * build.list_heads : 0;
  const int64_t begin_at = arena.add(lists * kInt);
  const int64_t end_at = arena.add(lists * kInt);
  const int64_t partial_at = arena.add(lists * kInt);
  const int64_t entries = build.has_lists ? inputs.entry_capacity : 0;
  const int64_t entries_at = arena.add(entries * kInt);
  const int64_t turns_at = arena.add(adds_in_turn(plan) ? entries * kInt : 0);
  build.order_items = order_capacity(build.columns, shape.kv_heads, rows.split_capacity);
  const int64_t measures_at = arena.add(build.columns * measured_heads * static_cast<int64_t>(sizeof(RowMeasure)));
  const int64_t order_at = arena.add(build.order_items * static_cast<int64_t>(sizeof(WorkItem)));
  const int64_t split_at = arena.add(rows.split_capacity / 2 * static_cast<int64_t>(sizeof(SplitRow)));
  build.memory = cuda::DeviceMemory(inputs.code.gpu.device, arena.bytes());

  auto* state = at<BuildState>(build.memory, state_at);
  build.lists = {.sequences = rows.sequences,
                 .rows = rows.lists,
                 .column_begin = at<int>(build.memory, begin_at),
                 .column_end = at<int>(build.memory, end_at),
                 .partial_tiles = at<int>(build.memory, partial_at),
                 .entries = at<int>(build.memory, entries_at),
                 .entry_capacity = static_cast<int>(inputs.entry_capacity),
                 .batches = rows.batches,
                 .columns = static_cast<int>(build.columns),
                 .columns_per_head = build.list_heads == 1 ? 0 : static_cast<int>(build.columns),
                 .columns_per_batch = columns_per_batch,
                 .state = state,
                 .entry_turns = at<int>(build.memory, turns_at)};
  build.order.order = {.arguments = rows.arguments,
                       .sequences = exchanged(rows.sequences),
                       .lists = {},
                       .batches = rows.batches,
                       .heads = static_cast<int>(shape.kv_heads),
                       .heads_per_group = static_cast<int>(heads_per_group),
                       .rows_per_head = static_cast<int>(build.columns),
                       .rows_per_batch = columns_per_batch,
                       .measured_heads = static_cast<int>(measured_heads),
                       .split_tiles = rows.split_tiles,
                       .split_capacity = rows.split_capacity,
                       .rows = at<RowMeasure>(build.memory, measures_at),
                       .totals = at<RowTotals>(build.memory, totals_at),
                       .order = at<WorkItem>(build.memory, order_at),
                       .split_rows = at<SplitRow>(build.memory, split_at),
                       .state = state};
  build.order.sequences = rows.sequences;
  build.order.lists = {.column_begin = build.lists.column_begin,
                       .column_end = build.lists.column_end,
                       .partial_tiles = build.lists.partial_tiles,
                       .entries = build.lists.entries,
                       .columns_per_head = build.lists.columns_per_head,
                       .columns_per_batch = columns_per_batch};
  build.order.heads_per_kv_head = static_cast<int>(heads_per_kv_head);
  build.order.rows_per_batch = rows.rows_per_batch;
  return build;
}

void enqueue_columns(const CudaCode& code, const ColumnBuild& build, cuda::Stream stream) {
  if (build.columns == 0) return;
  const cuda::OpenDevice& device = *code.gpu.device;
  const cuda::Driver& driver = device.driver();
  const BackwardCode& entries = *code.loaded->backward;
  cuda::check(driver, driver.fill_bytes(build.memory.pointer(), 0, static_cast<size_t>(build.zeros_bytes), stream),
              "clearing the builder's counters");
  const auto shape = [&](int64_t columns_of_cta, int64_t heads) {
    return cuda::LaunchShape{.grid_x = static_cast<unsigned>(ceil_div(build.columns, columns_of_cta)),
                             .grid_y = static_cast<unsigned>(heads),
                             .threads = kCudaBuildThreads,
                             .shared_bytes = 0};
  };
  if (build.has_lists) {
    TransposeParams lists = build.lists;
    void* parameters[] = {&lists};
    cuda::enqueue(device, entries.transpose_lists, shape(kColumnsOfCta, build.list_heads), parameters, stream);
  }
  ColumnOrderParams columns = build.order;
  OrderParams order = build.order.order;
  void* measured[] = {&columns};
  void* ordered[] = {&order};
  const int64_t heads = order.measured_heads;
  cuda::enqueue(device, entries.measure_columns, shape(kColumnsOfCta, heads), measured, stream);
  cuda::enqueue(device, entries.cut_columns != nullptr ? entries.cut_columns : code.loaded->cut_rows,
                shape(kCudaBuildThreads, heads), ordered, stream);
  cuda::enqueue(device, entries.order_columns, shape(kColumnsOfCta, heads), ordered, stream);
}

}  // namespace harrier
