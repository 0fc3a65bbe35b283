// What the kernels of a backward launch are handed. Plain C++: the launcher fills these very structs.
//
// A row is a query tile of one head, as in the forward pass; a column is a key tile of one key head, with the queries
// of every head that reads it. dK and dV are sums over the tiles of a column, dQ over those of a row.
#pragma once

#include "codegen/cuda/kernels/params.cuh"

namespace harrier {

/// An order of rows or of columns, and two zeros that the kernel which follows it leaves zero.
struct WorkOrder {
  const WorkItem* items;
  const int* count;
  int* counter;
};

/// Lists of the query tiles that see each column, as KeyLists has the key boxes of rows: entry = query tile, with the
/// note of the key box that the row's list has, tiles that need a mask first, both kinds rising. Columns of one head
/// are numbered by first_row of key tokens and kTileK; query heads may have lists of their own.
struct QueryLists {
  const int* column_begin;
  const int* column_end;
  const int* partial_tiles;
  const int* entries;
  int columns_per_head;   // of one query head; 0 when all heads share their lists
  int columns_per_batch;  // kPackedRows when packed
};

struct BackwardParams {
  TensorMap query;  // maps of the copy engine, boxes of kTileQ or kTileK rows; kernels without one read the rows below
  TensorMap key;
  TensorMap value;
  TensorMap d_output;
  TensorRows query_rows;
  TensorRows key_rows;
  TensorRows value_rows;
  TensorRows output_rows;  // O, as the forward pass wrote it
  TensorRows d_output_rows;
  TensorRows d_query_rows;  // the results
  TensorRows d_key_rows;
  TensorRows d_value_rows;
  PatternArguments arguments;
  SequenceTable sequences;
  KeyLists key_lists;
  QueryLists query_lists;
  WorkOrder rows;
  WorkOrder columns;
  int heads;
  int heads_per_kv_head;
  int batches;
  int rows_per_batch;  // query tiles of a padded sequence; kPackedRows when packed
  int tile_places;     // places of one head in the three arrays below: see first_row
  const float* lse;    // of the forward pass
  int64 lse_batch_stride;
  int64 lse_head_stride;
  int64 lse_token_stride;
  float* log2_lse;      // [head][tile place][query of the tile]: LSE times log2(e); +infinity where nothing is seen
  float* delta;         // likewise: rowsum(dO * O); 0 where nothing is seen
  float* d_query_sums;  // likewise, times kHeadDim, in an order of the kernel's own; null where dQ needs no sums
  float* column_parts;  // [slot][key of the tile][kHeadDim + kValueDim]: dK and dV of parts of split columns
  float* row_parts;     // [slot][query of the tile][kHeadDim]: dQ of parts of split rows
  float* d_arrays[8];   // gradients of the pattern's float arrays, element by element as these; null = not wanted
  float score_scale;    // what a score is multiplied by, times log2(e)
  float slope;          // of the score in q . k, where that is one number: dS is P (dP - delta) times this
  float padding_score;  // additive padding: what it adds to a score, times log2(e)
  // Of deterministic kernels, else null; behind all others, whose places in constant memory stay what they are.
  uint32* turns;           // [head][tile place][kConsumers], zeros: columns that have added to a share of d_query_sums
  const int* entry_turns;  // beside QueryLists::entries: how many columns add to the entry's query tile before this one
};

}  // namespace harrier
