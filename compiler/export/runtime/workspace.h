// What a launch needs of the workspace, and where each part of it lies.
#pragma once

#include "arrays.h"

// Places in one allocation.
static uint64_t take(uint64_t base, int64_t* used, int64_t bytes) {
  enum { kAlignment = 256 };
  const int64_t offset = divide_up(*used, kAlignment) * kAlignment;
  *used = offset + bytes;
  return base + (uint64_t)offset;
}

enum { kBytesPerElement = 2, kBytesPerSum = 4 };

// Key heads whose K and V L2 has room for, a third of it being left to Q, O and lists.
static int64_t forward_heads(const WorkloadFacts* workload, int64_t key_tokens, int64_t l2_bytes) {
  const int64_t bytes_of_kv_head = key_tokens * (workload->head_dim + workload->value_dim) * kBytesPerElement;
  return l2_bytes * 2 / 3 / larger(bytes_of_kv_head, 1);
}

// Key heads whose Q, dO and fp32 sums of dQ half of L2 has room for; but some columns for every CTA, or long ones start
// late: more of these in closed form, where heads share queries that CTAs pass together.
static int64_t backward_heads(const harrier_kernels* kernels, const LaunchPlan* plan, int64_t query_tokens,
                              int64_t key_tokens) {
  const WorkloadFacts* workload = plan->workload;
  const int64_t columns_per_cta = plan->kernel->facts->lists ? 2 : 4;
  const int64_t bytes_of_query =
      (workload->head_dim + workload->value_dim) * kBytesPerElement + workload->head_dim * kBytesPerSum;
  const int64_t bytes_of_kv_head = query_tokens * bytes_of_query * (workload->heads / workload->kv_heads);
  const int64_t columns_of_head = larger(key_tokens / plan->kernel->facts->tile_k, 1);
  return larger(kernels->l2_bytes / 2 / larger(bytes_of_kv_head, 1),
                columns_per_cta * plan->kernel->most_ctas / columns_of_head);
}

// As the library's choose_cuda_schedule; parts for four times the CTAs that run at a time.
static void choose_schedule(const harrier_kernels* kernels, LaunchPlan* plan, const harrier_kernels_call* call) {
  const KernelFacts* facts = plan->kernel->facts;
  OrderParams* order = &plan->order;
  if (facts->has_schedule) {
    order->heads_per_group = facts->heads_per_group;
    order->split_tiles = facts->split_tiles;
    order->split_capacity = facts->split_tiles > 0 ? facts->split_capacity : 0;
    return;
  }
  enum { kPartsPerCta = 4, kSplitTiles = 16 };
  const WorkloadFacts* workload = plan->workload;
  const int64_t sequences = call->packed ? 1 : call->batch;
  const int64_t key_tokens = plan->key_tokens * sequences;
  const int64_t kv_heads =
      larger(1, facts->backward ? backward_heads(kernels, plan, plan->query_tokens * sequences, key_tokens)
                                : forward_heads(workload, key_tokens, kernels->l2_bytes));
  order->heads_per_group = (int)(smaller(kv_heads, workload->kv_heads) * (workload->heads / workload->kv_heads));
  order->split_tiles = kSplitTiles;
  order->split_capacity = kPartsPerCta * plan->kernel->most_ctas;
}

static int do_heads_differ(const LaunchPlan* plan) {
  if (plan->kernel->facts->heads_differ || plan->lists.table.head_stride != 0) return 1;
  for (int i = 0; i < plan->workload->array_count; ++i) {
    for (int d = 0; d < kMaxRank; ++d) {
      const int read = (plan->workload->arrays[i].head_dimensions >> d & 1U) != 0;
      if (read && plan->forward.arguments.arrays[i].strides[d] != 0) return 1;
    }
  }
  return 0;
}

// Entries of all lists; `of_row` is set where every row has a place of its own.
static int64_t entry_capacity(const harrier_kernels_call* call, const LaunchPlan* plan, int64_t* of_row) {
  const KernelFacts* facts = plan->kernel->facts;
  const BlockTable* table = &plan->lists.table;
  const int64_t boxes_per_tile = facts->tile_k / facts->box_rows;
  const int64_t rows = plan->rows * plan->list_heads;
  *of_row = divide_up(call->longest_key, facts->tile_k) * boxes_per_tile;
  const int64_t dense = *of_row * rows;
  if (!facts->sparse_lists) return dense;
  const int64_t sharers =
      larger(1, table->batch_stride == 0 ? call->batch : 1) * (table->head_stride == 0 ? plan->list_heads : 1);
  const int64_t boxes = table->block / facts->box_rows;
  const int64_t rows_of_block = larger(table->block / facts->tile_q, 1);
  const int64_t sparse = sharers * plan->named_pairs * boxes * rows_of_block + rows * (boxes_per_tile - 1);
  if (sparse >= dense) return dense;
  *of_row = 0;
  return sparse;
}

static int64_t padded_dim(int64_t dim) { return divide_up(dim, 32) * 32; }

// What a launch of gradients needs beside its rows; `state` and `totals` of columns are zeros.
static void lay_out_backward(const harrier_kernels_call* call, uint64_t base, int64_t* used, uint64_t counter,
                             uint64_t state, uint64_t totals, LaunchPlan* plan) {
  enum { kColumnsCounter = 128 };
  const KernelFacts* facts = plan->kernel->facts;
  const WorkloadFacts* workload = plan->workload;
  const OrderParams* rows = &plan->order;
  BackwardPlan* backward = &plan->backward;
  const int64_t group = workload->heads / workload->kv_heads;
  const int64_t columns = backward->count;
  const int columns_per_batch = call->packed ? kPackedRows : (int)divide_up(plan->key_tokens, facts->tile_k);
  const int64_t lists = facts->lists ? columns * plan->list_heads : 0;
  const int64_t measured = plan->list_heads == 1 ? 1 : workload->kv_heads;
  const int64_t parts = rows->split_capacity;
  backward->items = columns * workload->kv_heads + parts;

  TransposeParams* transpose = &backward->transpose;
  transpose->sequences = rows->sequences;
  transpose->rows = rows->lists;
  transpose->column_begin = take(base, used, lists * 4);
  transpose->column_end = take(base, used, lists * 4);
  transpose->partial_tiles = take(base, used, lists * 4);
  transpose->entries = take(base, used, (int64_t)plan->lists.entry_capacity * 4);
  transpose->entry_capacity = plan->lists.entry_capacity;
  transpose->batches = rows->batches;
  transpose->columns = (int)columns;
  transpose->columns_per_head = plan->list_heads == 1 ? 0 : (int)columns;
  transpose->columns_per_batch = columns_per_batch;
  transpose->state = state;
  const int64_t entry_turns = facts->turns_of_tile ? plan->lists.entry_capacity : 0;
  transpose->entry_turns = take(base, used, entry_turns * 4);

  ColumnOrderParams* ordered = &backward->columns;
  const SequenceTable* sequences = &rows->sequences;
  const SequenceTable exchanged = {sequences->cu_key,      sequences->cu_query,   sequences->key_valid,
                                   sequences->query_valid, sequences->key_length, sequences->query_length};
  OrderParams* order = &ordered->order;
  order->arguments = rows->arguments;
  order->sequences = exchanged;
  order->batches = rows->batches;
  order->heads = workload->kv_heads;
  order->heads_per_group = (int)larger(1, rows->heads_per_group / group);
  order->rows_per_head = (int)columns;
  order->rows_per_batch = columns_per_batch;
  order->measured_heads = (int)measured;
  order->split_tiles = rows->split_tiles;
  order->split_capacity = rows->split_capacity;
  order->rows = take(base, used, columns * measured * (int64_t)sizeof(RowMeasure));
  order->totals = totals;
  order->order = take(base, used, backward->items * (int64_t)sizeof(WorkItem));
  order->split_rows = take(base, used, parts / 2 * (int64_t)sizeof(SplitRow));
  order->state = state;
  ordered->sequences = rows->sequences;
  ordered->lists.column_begin = transpose->column_begin;
  ordered->lists.column_end = transpose->column_end;
  ordered->lists.partial_tiles = transpose->partial_tiles;
  ordered->lists.entries = transpose->entries;
  ordered->lists.columns_per_head = transpose->columns_per_head;
  ordered->lists.columns_per_batch = columns_per_batch;
  ordered->heads_per_kv_head = (int)group;
  ordered->rows_per_batch = rows->rows_per_batch;

  BackwardParams* params = &backward->params;
  const int64_t places = plan->rows * workload->heads * facts->tile_q;
  const int64_t head_dim = padded_dim(workload->head_dim), value_dim = padded_dim(workload->value_dim);
  const int64_t split = parts > 1 ? parts : 0;
  params->log2_lse = take(base, used, places * 4);
  params->delta = take(base, used, places * 4);
  if (facts->maps) params->d_query_sums = take(base, used, places * head_dim * 4);
  params->column_parts = take(base, used, split * facts->tile_k * (head_dim + value_dim) * 4);
  params->row_parts = take(base, used, facts->maps ? 0 : split * facts->tile_q * head_dim * 4);
  params->turns = take(base, used, plan->rows * workload->heads * facts->turns_of_tile * 4);
  params->entry_turns = transpose->entry_turns;
  params->arguments = rows->arguments;
  params->sequences = rows->sequences;
  params->key_lists = rows->lists;
  params->query_lists = ordered->lists;
  const WorkOrder of_rows = {rows->order, rows->state + offsetof(BuildState, order_length), counter};
  const WorkOrder of_columns = {order->order, state + offsetof(BuildState, order_length), counter + kColumnsCounter};
  params->rows = of_rows;
  params->columns = of_columns;
  params->heads = workload->heads;
  params->heads_per_kv_head = (int)group;
  params->batches = rows->batches;
  params->rows_per_batch = rows->rows_per_batch;
  params->tile_places = (int)plan->rows;
}

static void lay_out_forward(uint64_t base, int64_t* used, uint64_t counter, LaunchPlan* plan) {
  const WorkloadFacts* workload = plan->workload;
  const OrderParams* order = &plan->order;
  const int64_t parts = order->split_capacity;
  ForwardParams* forward = &plan->forward;
  const int64_t part_rows = (parts > 1 ? parts : 0) * plan->kernel->facts->tile_q;
  forward->split_output = take(base, used, part_rows * padded_dim(workload->value_dim) * 4);
  forward->split_lse = take(base, used, part_rows * 4);
  if (workload->pruned_as_zero) forward->split_shown = take(base, used, part_rows * 4);
  forward->lists = order->lists;
  forward->order = order->order;
  forward->order_length = order->state + offsetof(BuildState, order_length);
  forward->work_count = (int)plan->items;
  forward->heads = workload->heads;
  forward->heads_per_kv_head = workload->heads / workload->kv_heads;
  forward->heads_per_group = order->heads_per_group;
  forward->counter = counter;
}

// Lays the workspace out from `base` on, and fills in what the builder and the kernels are told of it.
static int lay_out(const harrier_kernels* kernels, const harrier_kernels_call* call, uint64_t base, LaunchPlan* plan,
                   harrier_kernels_error* error) {
  const KernelFacts* facts = plan->kernel->facts;
  const WorkloadFacts* workload = plan->workload;
  const int64_t heads = workload->heads;
  choose_schedule(kernels, plan, call);
  const int64_t tiles = divide_up(plan->query_tokens, facts->tile_q);
  plan->rows = call->packed ? plan->query_tokens / facts->tile_q + call->batch : tiles * call->batch;
  const int differ = do_heads_differ(plan);
  plan->list_heads = differ ? heads : 1;
  const int64_t parts = plan->order.split_capacity;
  plan->items = plan->rows * heads + parts;
  int64_t entries_of_row = 0;
  const int64_t entries = facts->lists ? entry_capacity(call, plan, &entries_of_row) : 0;
  if (entries > INT32_MAX || plan->items > INT32_MAX) {
    return fail(error, harrier_kernels_invalid_input,
                "the launch may need %lld list entries and %lld items of work, the limit is %d: use a smaller batch",
                (long long)entries, (long long)plan->items, INT32_MAX);
  }
  const int64_t groups = plan->list_heads == 1 ? 1 : divide_up(heads, plan->order.heads_per_group);
  const int64_t list_rows = facts->lists ? plan->rows * plan->list_heads : 0;
  const int rows_per_batch = call->packed ? kPackedRows : (int)tiles;

  int64_t used = 0;
  const uint64_t state = take(base, &used, sizeof(BuildState));
  const uint64_t counter = take(base, &used, 256);
  const uint64_t totals = take(base, &used, divide_up(plan->rows, kSectionRows) * groups * (int64_t)sizeof(RowTotals));
  BackwardPlan* backward = &plan->backward;
  uint64_t column_state = 0, column_totals = 0;
  if (facts->backward) {
    const int64_t heads_together = larger(1, plan->order.heads_per_group / (heads / workload->kv_heads));
    const int64_t column_groups = differ ? divide_up(workload->kv_heads, heads_together) : 1;
    const int64_t key_tiles = divide_up(plan->key_tokens, facts->tile_k);
    backward->count = call->packed ? plan->key_tokens / facts->tile_k + call->batch : key_tiles * call->batch;
    column_state = take(base, &used, sizeof(BuildState));
    column_totals =
        take(base, &used, divide_up(backward->count, kSectionRows) * column_groups * (int64_t)sizeof(RowTotals));
  }
  plan->zero_bytes = used;

  ListParams* lists = &plan->lists;
  lists->row_begin = take(base, &used, list_rows * 4);
  lists->row_end = take(base, &used, list_rows * 4);
  lists->partial_tiles = take(base, &used, list_rows * 4);
  lists->entries = take(base, &used, entries * 4);
  lists->arguments = plan->forward.arguments;
  lists->sequences = plan->forward.sequences;
  lists->entry_capacity = (int)entries;
  lists->entries_per_row = (int)entries_of_row;
  lists->batches = (int)call->batch;
  lists->rows_per_head = differ ? (int)plan->rows : 0;
  lists->rows_per_batch = rows_per_batch;
  lists->state = state;

  OrderParams* order = &plan->order;
  order->rows = take(base, &used, plan->rows * plan->list_heads * (int64_t)sizeof(RowMeasure));
  order->order = take(base, &used, plan->items * (int64_t)sizeof(WorkItem));
  order->split_rows = take(base, &used, parts / 2 * (int64_t)sizeof(SplitRow));
  order->arguments = lists->arguments;
  order->sequences = lists->sequences;
  order->lists.row_begin = lists->row_begin;
  order->lists.row_end = lists->row_end;
  order->lists.partial_tiles = lists->partial_tiles;
  order->lists.entries = lists->entries;
  order->lists.rows_per_head = lists->rows_per_head;
  order->lists.rows_per_batch = rows_per_batch;
  order->batches = (int)call->batch;
  order->heads = (int)heads;
  order->rows_per_head = (int)plan->rows;
  order->rows_per_batch = rows_per_batch;
  order->measured_heads = (int)plan->list_heads;
  order->totals = totals;
  order->state = state;

  if (facts->backward) {
    lay_out_backward(call, base, &used, counter, column_state, column_totals, plan);
  } else {
    lay_out_forward(base, &used, counter, plan);
  }
  plan->bytes = used;
  return harrier_kernels_success;
}
