// The key tiles of every row as lists of boxes, as CUDA kernels read them (codegen/cuda/kernels/params.cuh, KeyLists).
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/passes/classify_tiles.h"
#include "ir/geometry.h"

namespace harrier {

/// Lists of one launch, on the host. Row (batch, head, tile) is batch * rows_per_batch + head * rows_per_head + tile.
struct HostKeyLists {
  std::vector<int32_t> row_begin;
  std::vector<int32_t> row_end;
  std::vector<int32_t> partial_tiles;
  std::vector<int32_t> entries;
  int32_t rows_per_head = 0;  // 0 where heads share their lists
  int32_t rows_per_batch = 0;
};

/// From tiles that were classified in boxes of map.tile_k keys. Entries of a row are whole tiles of `tile_k` keys:
/// holes first, then boxes that need a mask (those the predicate decides, that count more than once, or that the
/// sequence's end cuts), then full ones, each ascending. Throws InvalidInput where an entry cannot name its box.
HostKeyLists build_key_lists(const TileMap& map, const Geometry& geometry, int64_t tile_k);

}  // namespace harrier
