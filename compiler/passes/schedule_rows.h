// The order in which cores take rows: longest first, so that no long row starts last.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/passes/classify_tiles.h"

namespace harrier {

struct ScheduledRow {
  int32_t batch;
  int32_t head;
  int32_t tile;
  bool operator==(const ScheduledRow&) const = default;
};

/// Every row of every head once, by falling cost (keys in its runs, partial ones dearer); among equals head by head, so
/// that neighbours in time share keys and values. Rows without a run are kept: their outputs must be written too.
std::vector<ScheduledRow> schedule_rows(const TileMap& map, const Geometry& geometry, int64_t heads);

/// The same rows for a backward pass, where rows that add to the gradients of the same keys take turns: heads take
/// their rows by turns, those that share keys as far from each other as can be, and neighbouring tiles of one head,
/// which see much the same keys, are set apart. Depends on nothing but its arguments.
std::vector<ScheduledRow> spread_rows(const std::vector<ScheduledRow>& order, int64_t heads_per_key_head);

}  // namespace harrier
