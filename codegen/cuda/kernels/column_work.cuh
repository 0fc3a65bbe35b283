// A column of work: a key tile of one key head of one sequence, and where that lies.
#pragma once

#include "codegen/cuda/kernels/backward_params.cuh"
#include "codegen/cuda/kernels/row_work.cuh"

namespace harrier {

/// What those who multiply need to know of the column that they work on.
struct ColumnWork {
  int tiles;      // query tiles, over all heads that read the key head; -1 = no more work
  int key_begin;  // position of the tile's first key in its sequence
  int kv_head;
  int batch;
  int query_length;  // extents
  int key_length;
  int query_valid;
  int key_valid;
  int query_token;  // of query 0 / key 0 in the packed order of the batch
  int key_token;
  int query_offset;      // token of query 0 in the tensors
  int key_offset;        // likewise of key 0
  int batch_coordinate;  // batch index in the tensors; 0 when packed
  int first_place;       // place of the sequence's first query tile in BackwardParams::log2_lse
  int split_slot;
};

/// The column that `item` names. No tiles yet.
template <class Config>
__device__ __forceinline__ ColumnWork describe_column(const SequenceTable& sequences, int rows_per_batch,
                                                      const WorkItem& item) {
  const RowWork row = describe_row<Config>(sequences, {0, item.head, item.batch, 0, 0, item.split_slot});
  ColumnWork column;
  column.tiles = 0;
  column.key_begin = item.tile * Config::kTileK;
  column.kv_head = item.head;
  column.batch = item.batch;
  column.query_length = row.query_length;
  column.key_length = row.key_length;
  column.query_valid = row.query_valid;
  column.key_valid = row.key_valid;
  column.query_token = row.query_token;
  column.key_token = row.key_token;
  column.query_offset = row.query_offset;
  column.key_offset = sequences.cu_key != nullptr ? row.key_token : 0;
  column.batch_coordinate = row.batch_coordinate;
  column.first_place = first_row(rows_per_batch, item.batch, row.query_token, Config::kTileQ);
  column.split_slot = item.split_slot;
  return column;
}

/// For the queries of one head. `Column` is ColumnWork, or the volatile one that lies in shared memory.
template <class Column>
__device__ __forceinline__ Position position_of(const PatternArguments& arguments, const Column& column, int head) {
  return {arguments,        column.batch,    head, column.query_length, column.key_length, column.query_token,
          column.key_token, column.key_valid};
}

}  // namespace harrier
