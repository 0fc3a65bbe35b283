// Sorts the key tiles of every row into empty, full and partial, without touching pairs one by one.
//
// Interval patterns (all, none, causal, windows, sinks, prefixes, documents with sorted segments, globals and
// their combinations) are done in closed form by interval arithmetic; block lists are walked; `where` is bisected by
// interval arithmetic over its expression; bits are scanned. Sound always: a key in no run is hidden from the whole
// row, a full run has exactly its count for every query of the row. Memory grows with rows and runs, never with length
// squared.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/bind.h"
#include "ir/geometry.h"
#include "ir/launch.h"
#include "ir/pattern.h"

namespace harrier {

/// The runs of every row. Rows of heads that share a mask are stored once (heads == 1).
struct TileMap {
  int64_t tile_q = 0;
  int64_t tile_k = 0;
  int64_t heads = 1;                 // 1 when the mask does not depend on the head
  std::vector<int64_t> first_row;    // [batch + 1]: rows of (sequence b, head 0) start at first_row[b]; see row_index
  std::vector<int64_t> run_offsets;  // [rows + 1]
  std::vector<KeyRun> runs;          // of all rows, ascending by key inside a row

  int64_t row_tiles(int64_t batch) const { return (first_row[batch + 1] - first_row[batch]) / heads; }
  int64_t row_index(int64_t batch, int64_t head, int64_t tile) const {
    return first_row[batch] + (heads == 1 ? 0 : head) * row_tiles(batch) + tile;
  }
};

/// Runs are cut at multiples of tile_k, at the end of the keys, and where padding starts. Rows cover the valid queries
/// only.
TileMap classify_tiles(const Pattern& pattern, const Shape& shape, const BoundPattern& bound, const Geometry& geometry,
                       int64_t tile_q, int64_t tile_k);

/// Counts of (row, key tile) pairs over all heads, of key tiles up to each sequence's extent; work in pairs.
struct TileCounts {
  int64_t empty = 0;
  int64_t full = 0;
  int64_t partial = 0;
};
TileCounts count_tiles(const TileMap& map, const Geometry& geometry, int64_t heads);

}  // namespace harrier
