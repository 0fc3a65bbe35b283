// A row of work: a query tile of one head of one sequence, and where that lies.
#pragma once

#include "codegen/cuda/kernels/pattern.cuh"

namespace harrier {

/// What consumers need to know of the row (query tile of one head of one sequence) that they work on.
struct RowWork {
  int partial_tiles;  // key tiles that need a mask, first; -1 = no more work
  int full_tiles;
  int query_begin;  // position of the tile's first query in its sequence
  int head;
  int batch;
  int query_length;  // extents
  int key_length;
  int query_valid;
  int key_valid;
  int query_token;  // of query 0 / key 0 in the packed order of the batch
  int key_token;
  int query_offset;      // token of query 0 in the tensors
  int batch_coordinate;  // batch index in the tensors; 0 when packed
  int split_slot;
};

/// The row that `item` names: where its sequence lies and which of its queries it covers. No tiles yet.
template <class Config>
__device__ __forceinline__ RowWork describe_row(const SequenceTable& sequences, const WorkItem& item) {
  RowWork row;
  row.head = item.head;
  row.batch = item.batch;
  row.query_begin = item.tile * Config::kTileQ;
  row.split_slot = item.split_slot;
  row.partial_tiles = 0;
  row.full_tiles = 0;
  if (sequences.cu_query != nullptr) {
    row.query_token = sequences.cu_query[item.batch];
    row.key_token = sequences.cu_key[item.batch];
    row.query_length = sequences.cu_query[item.batch + 1] - row.query_token;
    row.key_length = sequences.cu_key[item.batch + 1] - row.key_token;
    row.query_offset = row.query_token;
    row.batch_coordinate = 0;
  } else {
    row.query_length = sequences.query_length;
    row.key_length = sequences.key_length;
    row.query_token = item.batch * row.query_length;
    row.key_token = item.batch * row.key_length;
    row.query_offset = 0;
    row.batch_coordinate = item.batch;
  }
  row.query_valid = sequences.query_valid != nullptr ? sequences.query_valid[item.batch] : row.query_length;
  row.key_valid = sequences.key_valid != nullptr ? sequences.key_valid[item.batch] : row.key_length;
  return row;
}

template <class Config>
__device__ __forceinline__ RowWork describe_row(const ForwardParams& params, const WorkItem& item) {
  return describe_row<Config>(params.sequences, item);
}

/// `Row` is RowWork, or the volatile one that lies in shared memory.
template <class Row>
__device__ __forceinline__ Position position_of(const PatternArguments& arguments, const Row& row) {
  return {arguments,      row.batch,       row.head,      row.query_length,
          row.key_length, row.query_token, row.key_token, row.key_valid};
}
template <class Row>
__device__ __forceinline__ Position position_of(const ForwardParams& params, const Row& row) {
  return position_of(params.arguments, row);
}

}  // namespace harrier
