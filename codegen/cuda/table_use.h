// How a mask uses its block tables, and the form of it that kernels are made from.
//
// Where a row lies in one block of queries, or in up to eight whole ones, list entries carry what the table says of
// their box. Everything else reads its tables pair by pair, as arrays: it works for all masks, and costs a load a pair
// in tiles that need a mask.
#pragma once

#include "ir/cuda_plan.h"
#include "ir/lowered.h"

namespace harrier {

/// True for several tables in one mask, for blocks that neither hold a row of queries nor divide it into at most eight
/// (CudaPlan::row_blocks is 0), and for tables that count where a row has several blocks.
bool looks_tables_up(const LoweredPattern& lowered, const CudaPlan& plan);

/// Arrays that stand for tables are called this and the table's slot. No word of the language holds a dot.
inline constexpr const char* kTableArrayPrefix = "table.";

/// What kernels are made from: the pattern itself, or, if looks_tables_up, one without table slots that reads arrays.
/// Behind the pattern's own arrays and integers it has, for each table in slot order, "table.SLOT" (uint8, rank 4:
/// counts [batch, head, query block, key block], 1 where the table does not count) and the size of its blocks, which
/// the launcher fills in.
LoweredPattern cuda_pattern(const LoweredPattern& lowered, const CudaPlan& plan);

/// True when every box that the table names is visible as a whole, as often as it is named.
bool is_table_alone(const LoweredPattern& lowered);

/// True when nothing is visible where the table names no block.
bool needs_table(const LoweredPattern& lowered);

/// `visible` where the table names every box `count` times.
Expression with_table_count(const Expression& visible, int64_t count);

}  // namespace harrier
