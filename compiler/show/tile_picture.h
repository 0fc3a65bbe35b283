// The tiles of one head of one sequence, shrunk to as many cells as there is room for: what both drawings draw.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/passes/classify_tiles.h"
#include "ir/geometry.h"

namespace harrier {

enum class CellKind : uint8_t { kEmpty, kFull, kPartial };

struct TilePicture {
  int64_t query_length = 0;
  int64_t key_length = 0;
  int64_t cell_queries = 0;  // queries and keys that a cell covers
  int64_t cell_keys = 0;
  int64_t rows = 0;  // of cells
  int64_t columns = 0;
  std::vector<CellKind> cells;  // row-major; kFull and kEmpty only where every tile of the cell is
  std::vector<int64_t> counts;  // how often a full cell's pairs count; 0 where its tiles differ, or not full
  std::vector<double> work;     // [rows] keys that a query tile of this row goes through, on average
  TileCounts tiles;             // of the tiles themselves, not of the cells

  CellKind kind(int64_t row, int64_t column) const { return cells[row * columns + column]; }
};

/// Shrinks by whole tiles until at most `max_rows` x `max_columns` cells are left; by the same factor both ways.
TilePicture picture_tiles(const TileMap& map, const Sequence& sequence, int64_t batch, int64_t head, int64_t max_rows,
                          int64_t max_columns);

}  // namespace harrier
