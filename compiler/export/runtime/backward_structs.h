// What kernels of gradients are handed: the structs of codegen/cuda/kernels/backward_params.cuh and build_params.cuh in
// C. Exported tables check every size and offset against those.
#pragma once

#include "device_structs.h"

typedef struct WorkOrder {
  uint64_t items;
  uint64_t count;
  uint64_t counter;
} WorkOrder;

typedef struct QueryLists {
  uint64_t column_begin;
  uint64_t column_end;
  uint64_t partial_tiles;
  uint64_t entries;
  int32_t columns_per_head;
  int32_t columns_per_batch;
} QueryLists;

typedef struct BackwardParams {
  TensorMap query;
  TensorMap key;
  TensorMap value;
  TensorMap d_output;
  TensorRows query_rows;
  TensorRows key_rows;
  TensorRows value_rows;
  TensorRows output_rows;
  TensorRows d_output_rows;
  TensorRows d_query_rows;
  TensorRows d_key_rows;
  TensorRows d_value_rows;
  PatternArguments arguments;
  SequenceTable sequences;
  KeyLists key_lists;
  QueryLists query_lists;
  WorkOrder rows;
  WorkOrder columns;
  int32_t heads;
  int32_t heads_per_kv_head;
  int32_t batches;
  int32_t rows_per_batch;
  int32_t tile_places;
  uint64_t lse;
  int64_t lse_batch_stride;
  int64_t lse_head_stride;
  int64_t lse_token_stride;
  uint64_t log2_lse;
  uint64_t delta;
  uint64_t d_query_sums;
  uint64_t column_parts;
  uint64_t row_parts;
  uint64_t d_arrays[8];
  float score_scale;
  float slope;
  float padding_score;
  uint64_t turns;
  uint64_t entry_turns;
} BackwardParams;

typedef struct TransposeParams {
  SequenceTable sequences;
  KeyLists rows;
  uint64_t column_begin;
  uint64_t column_end;
  uint64_t partial_tiles;
  uint64_t entries;
  int32_t entry_capacity;
  int32_t batches;
  int32_t columns;
  int32_t columns_per_head;
  int32_t columns_per_batch;
  uint64_t state;
  uint64_t entry_turns;
} TransposeParams;

typedef struct ColumnOrderParams {
  OrderParams order;
  SequenceTable sequences;
  QueryLists lists;
  int32_t heads_per_kv_head;
  int32_t rows_per_batch;
} ColumnOrderParams;
