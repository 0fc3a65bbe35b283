// What the forward kernel is handed at launch. The host fills a struct of the same layout.
#pragma once

#include "codegen/cuda/kernels/types.cuh"

namespace harrier {

/// An array of the pattern: element (i, j, ...) is at data[i * strides[0] + j * strides[1] + ...], in elements.
struct DeviceArray {
  const void* data;
  int64 strides[4];
};

/// The pattern's numbers and arrays. They live in constant memory, so changing one recompiles nothing and costs
/// nothing.
struct PatternArguments {
  int integers[16];  // clamped to +-2^30, as lengths are below 2^30: sums of a few of them do not wrap
  float floats[16];
  DeviceArray arrays[8];
};

/// Where sequences lie. Packed: cu_query and cu_key hold batch + 1 token offsets. Padded: both are null, every sequence
/// has the same extent, and query_valid / key_valid (null = the extent) hold how much of it is real.
struct SequenceTable {
  const int* cu_query;
  const int* cu_key;
  const int* query_valid;
  const int* key_valid;
  int query_length;
  int key_length;
};

/// Lists of key boxes, one list for each row of the pattern: entries [row_begin[r], row_end[r]), the boxes of one
/// key tile side by side, tiles that need a mask first. The low 24 bits of an entry are the box (key /
/// Config::kBoxRows, kNoBox = a hole that fills up a tile). The high 8 bits are how often its keys count beyond once,
/// modulo 256: 255 where no table lists them; or, in rows of several blocks of queries, a bit for each of these blocks
/// for which the table does not list the box.
struct KeyLists {
  const int* row_begin;
  const int* row_end;
  const int* partial_tiles;
  const int* entries;
  int rows_per_head;   // list rows of one head, for tables that differ between heads; 0 when all heads share one table
  int rows_per_batch;  // likewise for sequences; kPackedRows when they are packed and differ in length
};

/// Rows of packed sequences: see first_row.
inline constexpr int kPackedRows = -1;

/// The place of a sequence's first query tile among the rows of one head. Packed sequences have room for their tiles
/// whatever their lengths are: all in all (query tokens) / tile_q + (sequences) places.
constexpr int first_row(int rows_per_batch, int batch, int query_token, int tile_q) {
  return rows_per_batch == kPackedRows ? query_token / tile_q + batch : batch * rows_per_batch;
}

/// Part of the work, in the order in which CTAs take it: some key tiles of a row or, of a backward launch, some query
/// tiles of a column.
struct WorkItem {
  int tile;  // of queries; in the order of columns, of keys
  int head;
  int batch;
  int first_tile;  // of the row's key tiles (the column's query tiles), in the order in which their source gives them
  int tile_limit;  // one past the last
  int split_slot;  // where the partial result goes; -1 = the item is the whole row
};

/// A row that was split: its parts lie in slots first_slot ... first_slot + slots - 1.
struct SplitRow {
  int tile;  // of queries; in the order of columns, of keys
  int head;
  int batch;
  int first_slot;
  int slots;
};

/// Element (batch, token, head, column) of a tensor is at data[batch * batch_stride + token * token_stride + head *
/// head_stride + column]; packed tensors have batch 0 alone.
struct TensorRows {
  void* data;
  int64 batch_stride;
  int64 token_stride;
  int64 head_stride;
  int columns;  // the head dim before padding
};

struct ForwardParams {
  TensorMap query;  // maps of the copy engine; kernels without one read the rows below
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
  const WorkItem* order;    // null: every row of equal sequences, `heads_per_group` heads at a time
  const int* order_length;  // how many items `order` holds, counted on the device
  int work_count;           // items when order == null; else only what the host launched for
  int heads;
  int heads_per_kv_head;
  int heads_per_group;
  int query_tiles;      // rows of one head of one sequence, for order == null
  int last_rows_first;  // for order == null: 1 where the last rows are the longest (causal)
  int* counter;         // two zeros; the kernel leaves them zero
  float* lse;           // null = not wanted
  int64 lse_batch_stride;
  int64 lse_head_stride;
  int64 lse_token_stride;
  float* split_output;  // [slot][query of the tile][value dim], normalised
  float* split_lse;     // [slot][query of the tile], in units of log2
  float score_scale;    // what a score is multiplied by, times log2(e)
  float padding_score;  // additive padding: what it adds to a score, times log2(e)
  int* split_shown;     // softmax pruned_as_zero (else null): [slot][query of the tile], keys that the mask shows
};

inline constexpr int kNoBox = 0xffffff;

/// Tensor maps are ragged: dimension 1 (token of a sequence) has this many places and the base address lies that many
/// tokens early, so that coordinate kRaggedTokens - length + token, with offset + length in dimension 3, addresses
/// token `offset + token` and everything at or past `length` is out of bounds: read as zero, never written. A box must
/// hold at least one token in bounds.
inline constexpr int kRaggedTokens = 1 << 27;

}  // namespace harrier
