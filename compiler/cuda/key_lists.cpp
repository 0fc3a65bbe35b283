#include "compiler/cuda/key_lists.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/cuda/kernels/params.cuh"
#include "ir/error.h"

namespace harrier {
namespace {

constexpr int kCountShift = 24;

/// How often the keys of a partial run count: what its block table says, once without one.
int64_t count_of(const KeyRun& run) {
  if (run.count > 0) return run.count;
  const auto table_count = static_cast<int64_t>(run.table_counts & 0xff);
  return std::max<int64_t>(table_count, 1);
}

/// The boxes of one row, those that need a mask apart from the others.
struct RowBoxes {
  std::vector<int32_t> partial;
  std::vector<int32_t> full;

  void add(const KeyRun& run, int64_t box_rows) {
    for (int64_t box = run.begin / box_rows; box * box_rows < run.end; ++box) {
      if (box >= kNoBox) {
        throw InvalidInput(fmt::format("key {} lies in box {} of {} keys, lists name boxes up to {}: use larger blocks",
                                       run.begin, box, box_rows, kNoBox - 1));
      }
      const bool whole = run.begin <= box * box_rows && (box + 1) * box_rows <= run.end;
      const int64_t count = count_of(run);
      const auto entry =
          static_cast<int32_t>(static_cast<uint32_t>(box) | static_cast<uint32_t>(count - 1) << kCountShift);
      (run.count == 1 && whole ? full : partial).push_back(entry);
    }
  }

  void clear() {
    partial.clear();
    full.clear();
  }
};

}  // namespace

HostKeyLists build_key_lists(const TileMap& map, const Geometry& geometry, int64_t tile_k) {
  const int64_t boxes = tile_k / map.tile_k;
  HARRIER_CHECK(boxes * map.tile_k == tile_k, "a key tile must be made of whole boxes");
  int64_t most_tiles = 0;
  const int64_t batch = std::ssize(geometry.sequences);
  for (int64_t b = 0; b < batch; ++b) most_tiles = std::max(most_tiles, map.row_tiles(b));

  HostKeyLists lists;
  lists.rows_per_head = map.heads == 1 ? 0 : static_cast<int32_t>(most_tiles);
  lists.rows_per_batch = static_cast<int32_t>(most_tiles * map.heads);
  RowBoxes row;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t head = 0; head < map.heads; ++head) {
      for (int64_t tile = 0; tile < most_tiles; ++tile) {
        row.clear();
        if (tile < map.row_tiles(b)) {
          const int64_t index = map.row_index(b, head, tile);
          for (int64_t i = map.run_offsets[index]; i < map.run_offsets[index + 1]; ++i)
            row.add(map.runs[i], map.tile_k);
        }
        const auto partial = std::ssize(row.partial);
        const int64_t holes = (boxes - (partial + std::ssize(row.full)) % boxes) % boxes;
        lists.row_begin.push_back(static_cast<int32_t>(lists.entries.size()));
        lists.entries.insert(lists.entries.end(), holes, kNoBox);
        lists.entries.insert(lists.entries.end(), row.partial.begin(), row.partial.end());
        lists.entries.insert(lists.entries.end(), row.full.begin(), row.full.end());
        lists.row_end.push_back(static_cast<int32_t>(lists.entries.size()));
        lists.partial_tiles.push_back(static_cast<int32_t>((holes + partial + boxes - 1) / boxes));
        if (std::ssize(lists.entries) > std::numeric_limits<int32_t>::max()) {
          throw InvalidInput(fmt::format("the key lists pass {} entries: use larger blocks or a smaller batch",
                                         std::numeric_limits<int32_t>::max()));
        }
      }
    }
  }
  return lists;
}

}  // namespace harrier
