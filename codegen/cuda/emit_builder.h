// Emits the source of the small kernels around a large one: those that prepare a launch on the device (lists of key
// boxes, the order of work), and the one that joins the parts of split rows. They are a program of their own because it
// compiles beside that of the large kernel, which takes longer.
//
// How they are launched, on one stream, before harrier_forward. No step waits for the host, allocates, or depends on
// what the host knows of lengths; all of it may be captured in a graph. Structs are those of kernels/build_params.cuh
// and kernels/params.cuh. Every entry takes kBuildThreads (256) threads a CTA and one parameter.
//
//  1. Zero the BuildState, and the RowTotals if there is an order.
//  2. harrier_build_lists(ListParams), where key_source_of(cuda_pattern(...)) is kLists and the lists are not there
//     yet. Grid (rows, heads): `list_rows(...)` rows of one head, and as many heads as have lists of their own (1 where
//     no head sees other keys than the next; then rows_per_head is 0, else it is the number of rows). Dynamic shared
//     memory: builder_shared_bytes(lowered, plan), below 48 KiB.
//  3. For an order, with OrderParams whose `lists` are those of step 2 (unused for kClosedForm):
//     harrier_measure_rows: grid (rows_per_head / 8 rounded up, measured_heads), no shared memory,
//     harrier_cut_rows:     grid (rows_per_head / 256 rounded up, measured_heads), no shared memory,
//     harrier_order_rows:   the grid of harrier_measure_rows, no shared memory.
//  4. harrier_forward with order = OrderParams::order and order_length = &state->order_length; work_count is
//     order_capacity(...), the most items that there can be, or less: it only says how many CTAs are worth launching.
//  5. If rows may be split: harrier_combine with a grid of (split_capacity / 2, row_queries(plan) / 8), split_rows, and
//     split_count = &state->split_count. It reads split_output and split_lse: split_capacity slots of row_queries(plan)
//     queries.
//
// Of a backward pass, whose kernels take columns (key tiles of a key head) too, after step 2, with a BuildState and
// RowTotals of their own that are zero:
//     harrier_transpose_lists(TransposeParams), where there are lists: grid (columns of one head / 8 rounded up, heads
//     with lists of their own). harrier_measure_columns(ColumnOrderParams): grid (columns / 8 rounded up,
//     measured_heads), then with its OrderParams harrier_cut_rows and harrier_order_columns, whose grids are those of
//     harrier_cut_rows and harrier_order_rows. Where adds_in_turn(plan), harrier_cut_columns takes the place of
//     harrier_cut_rows, and TransposeParams::entry_turns is there.
//
// harrier_expand_table(ExpandParams), any time before step 2 and the forward kernel: writes a table of any form as the
// dense uint8 array "table.SLOT" of a pattern that looks its tables up. Grid (row blocks, heads of the array * its
// batch rows), shared memory expand_shared_bytes().
//
// harrier_segment_bounds(SegmentParams), likewise, for each pair "NAME.begin", "NAME.end" of a pattern that
// bound_segments (segment_bounds.h) gave: fills them from the ids @NAME. Grid (key tokens / 256 rounded up), no shared
// memory. The host may fill them as well.
//
// Rows: `rows_per_batch` is the number of query tiles of a padded sequence, 0 where all sequences share their lists (of
// lists alone, with equal lengths and nothing that differs between sequences), and kPackedRows when packed. Rows of one
// head: list_rows(...) of the query tokens and the sequences; a list's row is first_row(...) + tile +
// head * rows_per_head.
#pragma once

#include <cstdint>
#include <string>

#include "codegen/cuda/emit_mask.h"
#include "ir/cuda_plan.h"
#include "ir/lowered.h"
#include "ir/workload.h"

namespace harrier {

inline constexpr const char* kCudaListsName = "harrier_build_lists";
inline constexpr const char* kCudaMeasureName = "harrier_measure_rows";
inline constexpr const char* kCudaCutName = "harrier_cut_rows";
inline constexpr const char* kCudaOrderName = "harrier_order_rows";
inline constexpr const char* kCudaCombineName = "harrier_combine";
inline constexpr const char* kCudaExpandName = "harrier_expand_table";
inline constexpr const char* kCudaSegmentsName = "harrier_segment_bounds";
inline constexpr const char* kCudaTransposeName = "harrier_transpose_lists";
inline constexpr const char* kCudaMeasureColumnsName = "harrier_measure_columns";
inline constexpr const char* kCudaCutColumnsName = "harrier_cut_columns";
inline constexpr const char* kCudaOrderColumnsName = "harrier_order_columns";

/// Threads of a CTA of every entry here, and of the small kernels of a backward pass; kBuildThreads in the kernels.
inline constexpr unsigned kCudaBuildThreads = 256;

/// The same for sm_80 and sm_90a, and the same text for the same arguments. Takes what emit_cuda_stub takes without an
/// error. Patterns without lists get no entry for them.
std::string emit_cuda_builder(const LoweredPattern& lowered, const Shape& shape, const CudaPlan& plan);

/// Whether heads may see different keys: the mask names the head, other than to index arrays. Tables and arrays with a
/// stride from head to head make them differ too.
bool names_head(const LoweredPattern& lowered);

/// Dynamic shared memory of harrier_build_lists, and of harrier_expand_table.
int64_t builder_shared_bytes(const LoweredPattern& lowered, const CudaPlan& plan);
int64_t expand_shared_bytes();

/// Sizes of what the builder writes, from shapes alone.
struct BuilderShape {
  int64_t batches = 0;
  int64_t query_tokens = 0;  // of all sequences when packed, of one sequence when padded
  int64_t most_keys = 0;     // of a sequence: the padded extent, or a bound when packed (all key tokens at worst)
  bool packed = false;
  bool lists_per_batch = true;  // padded: sequences have lists of their own
};

/// Rows of one head. Packed: places for every split of the tokens into that many sequences.
int64_t list_rows(const BuilderShape& shape, const CudaPlan& plan);

/// Columns of one head, likewise.
int64_t list_columns(int64_t key_tokens, int64_t batches, bool packed, const CudaPlan& plan);

/// Entries of one row at most: every box, and holes up to a whole tile. ListParams::entries_per_row, where the memory
/// is list_rows * heads times this.
int64_t dense_row_entries(const BuilderShape& shape, const CudaPlan& plan);

/// Entries of all rows of lists whose table names `named` (row block, key block) pairs (for BigBird 5 + random a row
/// block, and all key blocks for the first and the last row block of each sequence), the same for every one of
/// `sharers` sequences and heads that share the table but not their lists: ListParams::entry_capacity with
/// entries_per_row = 0. For masks that need their table (needs_table) or are it alone.
int64_t sparse_entries(int64_t named, int64_t sharers, int64_t rows, int64_t block, const CudaPlan& plan);

/// Items of the order at most.
int64_t order_capacity(int64_t rows, int64_t heads, int64_t split_capacity);

/// RowTotals that the order needs.
int64_t order_totals(int64_t rows, int64_t heads, int64_t heads_per_group, int64_t measured_heads);

}  // namespace harrier
