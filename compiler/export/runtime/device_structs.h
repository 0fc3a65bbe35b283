// What kernels are handed: the structs of codegen/cuda/kernels/params.cuh and build_params.cuh in C. Exported tables
// check every size and offset against those.
#pragma once

#include <stdint.h>

typedef struct TensorMap {
  _Alignas(64) uint64_t words[16];
} TensorMap;

typedef struct DeviceArray {
  uint64_t data;
  int64_t strides[4];
} DeviceArray;

typedef struct PatternArguments {
  int32_t integers[16];
  float floats[16];
  DeviceArray arrays[8];
} PatternArguments;

typedef struct SequenceTable {
  uint64_t cu_query;
  uint64_t cu_key;
  uint64_t query_valid;
  uint64_t key_valid;
  int32_t query_length;
  int32_t key_length;
} SequenceTable;

typedef struct KeyLists {
  uint64_t row_begin;
  uint64_t row_end;
  uint64_t partial_tiles;
  uint64_t entries;
  int32_t rows_per_head;
  int32_t rows_per_batch;
} KeyLists;

typedef struct WorkItem {
  int32_t numbers[6];
} WorkItem;

typedef struct SplitRow {
  int32_t numbers[5];
} SplitRow;

typedef struct TensorRows {
  uint64_t data;
  int64_t batch_stride;
  int64_t token_stride;
  int64_t head_stride;
  int32_t columns;
} TensorRows;

typedef struct ForwardParams {
  TensorMap query;
  TensorMap key;
  TensorMap value;
  TensorMap output;
  TensorRows query_rows;
  TensorRows key_rows;
  TensorRows value_rows;
  TensorRows output_rows;
  PatternArguments arguments;
  SequenceTable sequences;
  KeyLists lists;
  uint64_t order;
  uint64_t order_length;
  int32_t work_count;
  int32_t heads;
  int32_t heads_per_kv_head;
  int32_t heads_per_group;
  int32_t query_tiles;
  int32_t last_rows_first;
  uint64_t counter;
  uint64_t lse;
  int64_t lse_batch_stride;
  int64_t lse_head_stride;
  int64_t lse_token_stride;
  uint64_t split_output;
  uint64_t split_lse;
  float score_scale;
  float padding_score;
  uint64_t split_shown;
} ForwardParams;

typedef enum TableKind { kNoTable, kDenseTable, kListTable, kBigBirdTable } TableKind;

typedef struct BlockTable {
  uint64_t data;
  uint64_t offsets;
  uint64_t counts;
  int64_t batch_stride;
  int64_t head_stride;
  int64_t row_stride;
  int32_t kind;
  int32_t element_bytes;
  int32_t offset_bytes;
  int32_t block;
  int32_t random;
  int32_t counted;
} BlockTable;

typedef struct BuildState {
  uint64_t tiles;
  int32_t entries;
  int32_t overflow;
  int32_t order_length;
  int32_t split_count;
} BuildState;

typedef struct ListParams {
  PatternArguments arguments;
  SequenceTable sequences;
  BlockTable table;
  uint64_t row_begin;
  uint64_t row_end;
  uint64_t partial_tiles;
  uint64_t entries;
  int32_t entry_capacity;
  int32_t entries_per_row;
  int32_t batches;
  int32_t rows_per_head;
  int32_t rows_per_batch;
  uint64_t state;
} ListParams;

typedef struct RowMeasure {
  int32_t numbers[3];
} RowMeasure;

typedef struct RowTotals {
  int32_t numbers[3];
} RowTotals;

typedef struct OrderParams {
  PatternArguments arguments;
  SequenceTable sequences;
  KeyLists lists;
  int32_t batches;
  int32_t heads;
  int32_t heads_per_group;
  int32_t rows_per_head;
  int32_t rows_per_batch;
  int32_t measured_heads;
  int32_t split_tiles;
  int32_t split_capacity;
  uint64_t rows;
  uint64_t totals;
  uint64_t order;
  uint64_t split_rows;
  uint64_t state;
} OrderParams;
