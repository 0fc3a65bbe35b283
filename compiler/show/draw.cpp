#include <fmt/format.h>

#include "compiler/bind.h"
#include "compiler/harrier_show.h"
#include "compiler/passes/choose_plan.h"
#include "compiler/passes/lower_pattern.h"
#include "compiler/passes/simplify.h"
#include "compiler/show/svg.h"
#include "compiler/show/terminal.h"
#include "ir/error.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace harrier {
namespace {

constexpr int64_t kMostTerminalRows = 48;
constexpr int64_t kMostSvgCells = 128;     // each way
constexpr int64_t kMostDetailCells = 512;  // each way

/// All that the drawings need.
struct Scene {
  const Workload& workload;  // simplified
  const Geometry& geometry;
  const BoundPattern& bound;
  const DrawOptions& options;

  const Sequence& sequence() const { return geometry.sequences[static_cast<size_t>(options.batch_row)]; }
};

TilePicture take_picture(const Scene& scene, TileSize tile, int64_t max_rows, int64_t max_columns) {
  const TileMap map = classify_tiles(scene.workload.pattern, scene.workload.shape, scene.bound, scene.geometry,
                                     tile.queries, tile.keys);
  return picture_tiles(map, scene.sequence(), scene.options.batch_row, scene.options.head, max_rows, max_columns);
}

/// Cells inside the tiles, an eighth of a tile each way, as long as they can be told apart.
std::optional<TilePicture> take_detail(const Scene& scene, TileSize tile) {
  const auto finer = [](int64_t size) {
    return size % 8 == 0 ? size / 8 : size % 4 == 0 ? size / 4 : size % 2 == 0 ? size / 2 : size;
  };
  const TileSize cell{.queries = finer(tile.queries), .keys = finer(tile.keys)};
  const Sequence& sequence = scene.sequence();
  const bool is_worth_it = (cell.queries < tile.queries || cell.keys < tile.keys) &&
                           sequence.query_length <= kMostDetailCells * cell.queries &&
                           sequence.key_length <= kMostDetailCells * cell.keys;
  if (!is_worth_it) return std::nullopt;
  return take_picture(scene, cell, kMostDetailCells, kMostDetailCells);
}

std::string describe(const Scene& scene, TileSize tile) {
  const Sequence& sequence = scene.sequence();
  return fmt::format("{} queries x {} keys, sequence {} of {}, head {} of {}, tiles of {} x {}", sequence.query_length,
                     sequence.key_length, scene.options.batch_row, scene.geometry.sequences.size(), scene.options.head,
                     scene.workload.shape.heads, tile.queries, tile.keys);
}

void check_index(const char* what, int64_t value, int64_t count) {
  if (value >= 0 && value < count) return;
  throw InvalidInput(
      fmt::format("{} is {}, there are {}: name one of 0 to {}", what, value, count, count > 0 ? count - 1 : 0));
}

}  // namespace

Drawing draw(const Workload& workload, const Geometry& geometry, const Bindings& bindings, const DrawOptions& options) {
  verify(workload);
  check_index("the row of the batch", options.batch_row, std::ssize(geometry.sequences));
  check_index("the head", options.head, workload.shape.heads);
  Workload simplified = workload;
  simplified.pattern = simplify(workload.pattern);
  std::vector<std::string> written;
  for (const ArrayUse& use : array_uses(workload.pattern)) written.push_back(use.name);
  const Bindings needed = without_needless(simplified.pattern, written, bindings);
  const BoundPattern bound = harrier::bind(simplified.pattern, simplified.shape,
                                           lower_pattern(simplified.pattern, simplified.shape), geometry, needed);
  const Scene scene{.workload = simplified, .geometry = geometry, .bound = bound, .options = options};
  const CpuPlan plan = choose_cpu_plan(simplified, CpuTarget{});
  const TileSize tile = options.tile.value_or(TileSize{.queries = plan.tile_q, .keys = plan.tile_k});

  Drawing drawing{.mask = print(simplified.pattern.mask),
                  .scene = describe(scene, tile),
                  .tile = tile,
                  .picture = take_picture(scene, tile, kMostTerminalRows,
                                          cells_that_fit(options.columns, scene.sequence().query_length)),
                  .terminal = {},
                  .svg = {}};
  drawing.terminal = fmt::format("{}\n{}", draw_in_terminal(drawing.picture, options.has_color),
                                 terminal_legend(drawing.picture, options.has_color));
  if (options.has_svg) {
    const TilePicture large = take_picture(scene, tile, kMostSvgCells, kMostSvgCells);
    const bool is_shrunk = large.cell_queries > tile.queries;
    drawing.svg = draw_svg(large, is_shrunk ? std::nullopt : take_detail(scene, tile),
                           {.title = drawing.mask, .subtitle = drawing.scene});
  }
  return drawing;
}

}  // namespace harrier
