#include "compiler/cuda/batch_rows.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include "compiler/passes/choose_plan.h"
#include "compiler/passes/classify_tiles.h"
#include "compiler/passes/lower_pattern.h"

namespace harrier {
namespace {

using autotune::RowTiles;

/// Stretches of queries that see a key box: all of it, or some.
struct BoxCounts {
  int64_t full = 0;
  int64_t partial = 0;
};

/// Boxes that a row sees, by their place among the keys.
using SeenBoxes = std::map<int64_t, BoxCounts>;

/// Adds the boxes of a stretch of queries to what is seen of each: full stretches and partial ones. A box that a run
/// does not fill is partial.
void add_boxes(const TileMap& map, int64_t row, int64_t box, SeenBoxes& seen) {
  std::map<int64_t, bool> whole;
  for (int64_t i = map.run_offsets[row]; i < map.run_offsets[row + 1]; ++i) {
    const KeyRun& run = map.runs[i];
    if (run.count_only != 0) continue;
    for (int64_t place = run.begin / box; place < (run.end + box - 1) / box; ++place) {
      const bool filled = run.count > 0 && run.begin <= place * box && (place + 1) * box <= run.end;
      const auto [found, is_new] = whole.try_emplace(place, filled);
      if (!is_new) found->second = false;
    }
  }
  for (const auto& [place, filled] : whole) {
    BoxCounts& counts = seen[place];
    ++(filled ? counts.full : counts.partial);
  }
}

void count_tile(RowTiles& tiles, bool is_whole) { ++(is_whole ? tiles.full : tiles.partial); }

/// A plan's tiles, made of stretches of queries and boxes of keys that lie in one block of the mask's table, so that
/// they are classified without looking at pairs.
struct TileGrid {
  int64_t stretch;
  int64_t box;
  int64_t stretches_of_row;
  int64_t boxes_of_tile;

  /// Boxes gathered into tiles, wherever they lie: partial ones first, and the last of their tiles takes full ones too.
  RowTiles gathered(const SeenBoxes& seen, int64_t stretches) const {
    const auto is_whole = [&](const auto& entry) { return entry.second.full == stretches; };
    const int64_t boxes = std::ssize(seen);
    const int64_t partial_boxes = boxes - std::ranges::count_if(seen, is_whole);
    const int64_t partial = (partial_boxes + boxes_of_tile - 1) / boxes_of_tile;
    return {.full = (boxes + boxes_of_tile - 1) / boxes_of_tile - partial, .partial = partial};
  }

  /// Tiles as they lie among the keys: whether the row sees all of each.
  std::map<int64_t, bool> lying(const SeenBoxes& seen, int64_t stretches) const {
    std::map<int64_t, int64_t> whole_boxes;
    for (const auto& [place, counts] : seen) whole_boxes[place / boxes_of_tile] += counts.full == stretches ? 1 : 0;
    std::map<int64_t, bool> tiles;
    for (const auto& [tile, boxes] : whole_boxes) tiles[tile] = boxes == boxes_of_tile;
    return tiles;
  }
};

TileGrid grid_of(const Mask& mask, const CudaPlan& plan) {
  const int64_t block = common_block(mask);
  const int64_t queries = int64_t{64} * plan.consumers;
  const int64_t stretch = block > 0 ? std::gcd(queries, block) : queries;
  const int64_t box = block > 0 ? std::gcd(int64_t{plan.box_rows}, block) : plan.box_rows;
  return {.stretch = stretch, .box = box, .stretches_of_row = queries / stretch, .boxes_of_tile = plan.tile_k / box};
}

/// Calls `take` with what each row of a head and a sequence sees, and of how many stretches it is.
template <typename Take>
void for_each_row(const TileMap& map, const TileGrid& grid, int64_t head, int64_t batch, const Take& take) {
  for (int64_t first = 0; first < map.row_tiles(batch); first += grid.stretches_of_row) {
    const int64_t stretches = std::min(grid.stretches_of_row, map.row_tiles(batch) - first);
    SeenBoxes seen;
    for (int64_t i = 0; i < stretches; ++i) add_boxes(map, map.row_index(batch, head, first + i), grid.box, seen);
    take(seen, stretches);
  }
}

/// The columns of one query head, sequence after sequence.
struct HeadColumns {
  std::vector<RowTiles> tiles;
  int64_t runs = 0;

  /// The rows of one more sequence, added one after another.
  class Sequence {
   public:
    Sequence(HeadColumns& columns, int64_t count) : columns_(columns), first_(columns.tiles.size()) {
      columns.tiles.resize(first_ + static_cast<size_t>(count));
      seen_last_.assign(static_cast<size_t>(count), -1);
    }

    void add(const std::map<int64_t, bool>& row_tiles) {
      for (const auto& [tile, is_whole] : row_tiles) {
        const auto place = static_cast<size_t>(tile);
        count_tile(columns_.tiles[first_ + place], is_whole);
        if (seen_last_[place] != row_ - 1 || row_ == 0) ++columns_.runs;
        seen_last_[place] = row_;
      }
      ++row_;
    }

   private:
    HeadColumns& columns_;
    size_t first_;
    std::vector<int64_t> seen_last_;
    int64_t row_ = 0;
  };
};

/// Adds a query head's columns to those of its key head, whose columns pass the rows of every head that reads them;
/// `heads` are alike.
void add_columns(const std::vector<RowTiles>& columns, int64_t heads, std::vector<RowTiles>& of_kv_head) {
  of_kv_head.resize(columns.size());
  for (size_t i = 0; i < columns.size(); ++i) {
    of_kv_head[i].full += heads * columns[i].full;
    of_kv_head[i].partial += heads * columns[i].partial;
  }
}

}  // namespace

autotune::BatchRows batch_rows(const Workload& workload, const LengthDraw& draw, const CudaPlan& plan) {
  const Shape& shape = workload.shape;
  const Geometry& geometry = draw.geometry;
  const BoundPattern bound =
      harrier::bind(workload.pattern, shape, lower_pattern(workload.pattern, shape), geometry, draw.bindings);
  const TileGrid grid = grid_of(workload.pattern.mask, plan);
  const TileMap map = classify_tiles(workload.pattern, shape, bound, geometry, grid.stretch, grid.box);
  const bool backward = shape.direction == Direction::kBackward;
  const int64_t heads_per_kv_head = shape.heads / shape.kv_heads;
  const bool alike = map.heads == 1;
  autotune::BatchRows rows{.heads = {}, .key_tokens = geometry.key_tokens, .query_tokens = geometry.query_tokens};
  rows.heads.resize(static_cast<size_t>(map.heads));
  if (backward) rows.columns.resize(static_cast<size_t>(alike ? 1 : shape.kv_heads));
  for (int64_t head = 0; head < map.heads; ++head) {
    std::vector<RowTiles>& of_head = rows.heads[static_cast<size_t>(head)];
    HeadColumns columns;
    for (int64_t batch = 0; batch < std::ssize(geometry.sequences); ++batch) {
      if (!backward) {
        for_each_row(map, grid, head, batch, [&](const SeenBoxes& seen, int64_t stretches) {
          of_head.push_back(grid.gathered(seen, stretches));
        });
        continue;
      }
      const int64_t keys = geometry.sequences[static_cast<size_t>(batch)].key_length;
      HeadColumns::Sequence sequence(columns, (keys + plan.tile_k - 1) / plan.tile_k);
      for_each_row(map, grid, head, batch, [&](const SeenBoxes& seen, int64_t stretches) {
        const std::map<int64_t, bool> tiles = grid.lying(seen, stretches);
        RowTiles& row = of_head.emplace_back();
        for (const auto& [tile, is_whole] : tiles) count_tile(row, is_whole);
        sequence.add(tiles);
      });
    }
    if (!backward) continue;
    const int64_t kv_head = alike ? 0 : head / heads_per_kv_head;
    add_columns(columns.tiles, alike ? heads_per_kv_head : 1, rows.columns[static_cast<size_t>(kv_head)]);
    rows.column_runs += (alike ? shape.heads : 1) * columns.runs;
  }
  return rows;
}

}  // namespace harrier
