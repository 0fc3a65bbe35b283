// The order in which persistent CTAs take rows, and how rows that are too long for one CTA are split.
#pragma once

#include <cstdint>
#include <vector>

#include "codegen/cuda/kernels/params.cuh"
#include "compiler/passes/classify_tiles.h"
#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

/// How a launch is scheduled. It changes no code, so it is chosen when lengths are known.
struct CudaSchedule {
  int heads_per_group = 1;  // heads whose rows are taken together, so that their K and V stay in L2
  int split_tiles = 0;      // rows of more key tiles are split into parts of about this many; 0 = none is
  bool operator==(const CudaSchedule&) const = default;
};

/// "8 heads together, rows of more than 32 tiles split"
std::string print(const CudaSchedule& schedule);

struct HostWorkOrder {
  std::vector<WorkItem> items;
  std::vector<SplitRow> split_rows;
  int split_slots = 0;
};

/// Key tiles of each row: a count of (batch, head, tile); rows in the padding of a batch have none.
struct RowTiles {
  int64_t query_tiles = 0;  // of the longest sequence
  int64_t heads = 1;        // 1 where heads are alike
  std::vector<int32_t> tiles;
  int64_t index(int64_t batch, int64_t head, int64_t tile) const {
    return (batch * heads + (heads == 1 ? 0 : head)) * query_tiles + tile;
  }
};

/// From tiles that were classified in boxes of map.tile_k keys, counted in tiles of `tile_k`. Rows of padding (past the
/// valid queries, inside the extent) count 0.
RowTiles count_row_tiles(const TileMap& map, const Geometry& geometry, int64_t tile_k);

/// What we choose: as many heads as L2 holds the K and V of; rows split where one is longer than a share of a CTA's
/// fair part of the work.
CudaSchedule choose_cuda_schedule(const RowTiles& rows, const Shape& shape, const Geometry& geometry, int64_t ctas,
                                  int64_t l2_bytes);

/// Every row of every head of every sequence once (rows without keys too: their zeros must be written), group by group
/// of heads, longest first inside a group, equal rows head beside head. Deterministic.
HostWorkOrder order_work(const RowTiles& rows, const Geometry& geometry, int64_t heads, int64_t tile_q,
                         const CudaSchedule& schedule);

}  // namespace harrier
