// What the kernels that build lists and orders are handed. Plain C++: the launcher fills these very structs.
#pragma once

#include "codegen/cuda/kernels/backward_params.cuh"

namespace harrier {

enum class TableKind : int {
  kNone,
  kDense,    // a count for each (row block, key block)
  kLists,    // the key blocks of each row block, in any order
  kBigBird,  // Hugging Face's BigBird: the blocks that every row block sees, and random ones
};

/// A block table in device memory, as the user or binding made it. Element (batch, head, row, i) of `data` is at
/// data[batch * batch_stride + head * head_stride + row * row_stride + i]; a stride of 0 shares.
///  * kDense: counts [batch][head][row block][key block].
///  * kLists: `offsets` [batch][head][row block + 1], strided likewise with a row stride of 1, into `data`, which holds
///    key blocks, and into `counts` (null = once each), which says how often each counts. Blocks past the sequence are
///    skipped.
///  * kBigBird: random blocks [batch][head][row block - 1][random]; null = every random block is block 0.
/// Counts above 255 become 255.
struct BlockTable {
  const void* data;
  const void* offsets;
  const int* counts;
  int64 batch_stride;
  int64 head_stride;
  int64 row_stride;
  TableKind kind;
  int element_bytes;  // of data: 1 (unsigned), 4 or 8
  int offset_bytes;   // of offsets: 4 or 8
  int block;          // queries, and keys, of a block
  int random;         // kBigBird: random blocks of a row block
  int counted;        // 0: what is listed counts once, however often it is listed
};

/// Numbers that kernels leave behind; zero before the first of them runs.
struct BuildState {
  uint64 tiles;      // key tiles of all measured rows
  int entries;       // taken from the list's memory so far
  int overflow;      // 1 when a row's list did not fit: that row is empty
  int order_length;  // items of the order
  int split_count;   // rows that are split
};

/// harrier_build_lists. See KeyLists for what is written.
struct ListParams {
  PatternArguments arguments;
  SequenceTable sequences;
  BlockTable table;
  int* row_begin;
  int* row_end;
  int* partial_tiles;
  int* entries;
  int entry_capacity;   // of all rows together
  int entries_per_row;  // above 0: row r lies at r * entries_per_row; 0: rows lie wherever there is room
  int batches;          // of the launch
  int rows_per_head;    // as in KeyLists
  int rows_per_batch;
  BuildState* state;
};

/// harrier_expand_table. Element (batch, head, row block, key block) of the result is at counts[batch * batch_stride +
/// head * head_stride + row block * row_stride + key block]; rows past the end of their sequence are not written. A
/// BigBird table differs from sequence to sequence unless their lengths are equal.
struct ExpandParams {
  SequenceTable sequences;
  BlockTable table;
  unsigned char* counts;
  int64 batch_stride;
  int64 head_stride;
  int64 row_stride;
  int key_blocks;
  int heads;  // of the result
};

/// harrier_segment_bounds. Ids do not fall inside a sequence; `falls` becomes 1 where they do, and the bounds are
/// wrong.
struct SegmentParams {
  SequenceTable sequences;
  const int* segments;  // [key tokens], as the three below but for the last
  int* begin;
  int* end;
  int* falls;
  int key_tokens;  // of all sequences
  int batches;
};

/// What is known of a row before it has a place in the order.
struct RowMeasure {
  int tiles;  // its key tiles; -1: no such row
  int cost;   // key tiles of its longest part
  int parts;  // 0: no such row
};

/// Sums over the rows that are sorted together.
struct RowTotals {
  int items;
  int split_rows;
  int split_slots;
};

/// Rows of one head that are sorted together; past that many, the order is section after section.
inline constexpr int kSectionRows = 4096;

/// harrier_measure_rows, harrier_cut_rows, harrier_order_rows.
struct OrderParams {
  PatternArguments arguments;
  SequenceTable sequences;
  KeyLists lists;
  int batches;
  int heads;
  int heads_per_group;  // their rows are sorted together, so that their K and V stay in L2
  int rows_per_head;    // places for rows of one head
  int rows_per_batch;   // query tiles of a padded sequence; kPackedRows when packed
  int measured_heads;   // 1 when all heads see the same keys, else `heads`
  int split_tiles;      // rows of more key tiles than this, and than a fair share, are split
  int split_capacity;   // parts that there is room for; 0: no row is split
  RowMeasure* rows;     // [measured_heads][rows_per_head]
  RowTotals* totals;    // [groups of measured heads][sections], zero before
  WorkItem* order;
  SplitRow* split_rows;
  BuildState* state;
};

/// harrier_transpose_lists: from the rows' lists, which have one box a key tile, to the columns'.
struct TransposeParams {
  SequenceTable sequences;
  KeyLists rows;
  int* column_begin;  // the places of QueryLists
  int* column_end;
  int* partial_tiles;
  int* entries;
  int entry_capacity;
  int batches;
  int columns;           // places of one head
  int columns_per_head;  // as in QueryLists
  int columns_per_batch;
  BuildState* state;  // of the columns
  int* entry_turns;   // of deterministic kernels: see BackwardParams
};

/// harrier_measure_columns; then harrier_cut_rows and harrier_order_columns with `order`, for which columns are rows:
/// its sequences have queries and keys exchanged, its heads are key heads.
struct ColumnOrderParams {
  OrderParams order;
  SequenceTable sequences;
  QueryLists lists;
  int heads_per_kv_head;
  int rows_per_batch;  // as in BackwardParams
};

}  // namespace harrier
