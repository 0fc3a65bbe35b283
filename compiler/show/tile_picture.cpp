#include "compiler/show/tile_picture.h"

#include <algorithm>

#include "ir/ceil_div.h"

namespace harrier {
namespace {

/// What lies in one cell so far.
struct CellTally {
  int64_t full = 0;
  int64_t partial = 0;
  int64_t count = -1;  // of the full tiles; 0 when they differ, -1 before the first
};

class Picturing {
 public:
  Picturing(TilePicture& picture, int64_t shrink, int64_t tile_k)
      : picture_(picture),
        shrink_(shrink),
        tile_k_(tile_k),
        key_tiles_(ceil_div(picture.key_length, tile_k)),
        tallies_(static_cast<size_t>(picture.columns)) {}

  void add_row(const KeyRun* begin, const KeyRun* end) {
    ++rows_in_band_;
    int64_t next_tile = 0;  // A tile that two runs share (padding starts inside it) is tallied once, with the first.
    for (const KeyRun* run = begin; run != end; ++run) {
      if (run->count_only != 0) continue;
      keys_in_band_ += run->end - run->begin;
      const int64_t first = std::max(run->begin / tile_k_, next_tile);
      const int64_t last = ceil_div(run->end, tile_k_);
      for (int64_t tile = first; tile < last;) {
        const int64_t column = tile / shrink_;
        const int64_t stop = std::min(last, (column + 1) * shrink_);
        add_tiles(tallies_[column], run->count, stop - tile);
        tile = stop;
      }
      next_tile = std::max(next_tile, last);
    }
  }

  /// Turns the rows added since the last call into one row of cells.
  void finish_band() {
    for (int64_t column = 0; column < picture_.columns; ++column) {
      const int64_t width = std::min(shrink_, key_tiles_ - column * shrink_);
      CellTally& tally = tallies_[column];
      const bool is_full = tally.full == width * rows_in_band_;
      const bool is_empty = tally.full + tally.partial == 0;
      picture_.cells.push_back(is_full ? CellKind::kFull : is_empty ? CellKind::kEmpty : CellKind::kPartial);
      picture_.counts.push_back(is_full ? tally.count : 0);
      picture_.tiles.full += tally.full;
      picture_.tiles.partial += tally.partial;
      picture_.tiles.empty += width * rows_in_band_ - tally.full - tally.partial;
      tally = {};
    }
    picture_.work.push_back(static_cast<double>(keys_in_band_) / static_cast<double>(rows_in_band_));
    rows_in_band_ = 0;
    keys_in_band_ = 0;
  }

 private:
  static void add_tiles(CellTally& tally, int64_t count, int64_t tiles) {
    if (count == 0) {
      tally.partial += tiles;
      return;
    }
    tally.full += tiles;
    tally.count = tally.count == -1 || tally.count == count ? count : 0;
  }

  TilePicture& picture_;
  int64_t shrink_;
  int64_t tile_k_;
  int64_t key_tiles_;
  int64_t rows_in_band_ = 0;
  int64_t keys_in_band_ = 0;
  std::vector<CellTally> tallies_;
};

}  // namespace

TilePicture picture_tiles(const TileMap& map, const Sequence& sequence, int64_t batch, int64_t head, int64_t max_rows,
                          int64_t max_columns) {
  const int64_t row_tiles = map.row_tiles(batch);
  const int64_t key_tiles = ceil_div(sequence.key_length, map.tile_k);
  const int64_t shrink = std::max({int64_t{1}, ceil_div(row_tiles, max_rows), ceil_div(key_tiles, max_columns)});
  TilePicture picture{.query_length = sequence.query_length,
                      .key_length = sequence.key_length,
                      .cell_queries = map.tile_q * shrink,
                      .cell_keys = map.tile_k * shrink,
                      .rows = ceil_div(row_tiles, shrink),
                      .columns = ceil_div(key_tiles, shrink),
                      .cells = {},
                      .counts = {},
                      .work = {},
                      .tiles = {}};
  Picturing picturing(picture, shrink, map.tile_k);
  for (int64_t tile = 0; tile < row_tiles; ++tile) {
    const int64_t row = map.row_index(batch, head, tile);
    picturing.add_row(map.runs.data() + map.run_offsets[row], map.runs.data() + map.run_offsets[row + 1]);
    if ((tile + 1) % shrink == 0 || tile + 1 == row_tiles) picturing.finish_band();
  }
  return picture;
}

}  // namespace harrier
