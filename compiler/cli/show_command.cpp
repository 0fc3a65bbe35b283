// `harrier show`: draws one head of one sequence.
#include <fmt/core.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string_view>

#include "cli/commands.h"
#include "cli/draw_arrays.h"
#include "cli/json_text.h"
#include "cli/output_file.h"
#include "cli/svg.h"
#include "cli/terminal.h"
#include "cli/workload_file.h"
#include "compiler/cpu_backend.h"
#include "compiler/cuda/choose_cuda_plan.h"
#include "compiler/harrier.h"
#include "compiler/passes/choose_plan.h"
#include "compiler/passes/lower_pattern.h"
#include "compiler/passes/simplify.h"
#include "ir/geometry.h"

namespace harrier {
namespace {

constexpr int64_t kLongestLength = (int64_t{1} << 31) - 1;
constexpr int64_t kLargestTile = 4096;
constexpr int64_t kMostTerminalRows = 48;
constexpr int64_t kMostSvgCells = 128;     // each way
constexpr int64_t kMostDetailCells = 512;  // each way

struct Tile {
  int64_t queries;
  int64_t keys;
};

Tile parse_tile(const std::string& text) {
  Tile tile{};
  const char* const end = text.data() + text.size();
  const auto [middle, error] = std::from_chars(text.data(), end, tile.queries);
  bool is_read = error == std::errc() && middle != end && *middle == 'x';
  if (is_read) {
    const auto [last, second_error] = std::from_chars(middle + 1, end, tile.keys);
    is_read = second_error == std::errc() && last == end;
  }
  const auto fits = [](int64_t size) { return size >= 1 && size <= kLargestTile; };
  if (!is_read || !fits(tile.queries) || !fits(tile.keys)) {
    throw InvalidInput(
        fmt::format("--tile {}: give queries x keys, each 1 to {}: --tile 64x64, say", text, kLargestTile));
  }
  return tile;
}

void check_range(const char* option, int64_t value, int64_t low, int64_t high, const char* remedy) {
  if (value >= low && value <= high) return;
  throw InvalidInput(fmt::format("{} {}: must lie in {} to {}: {}", option, value, low, high, remedy));
}

/// The batch that is classified, and which of its sequences is drawn.
struct Scene {
  Geometry geometry;
  int64_t batch_row;
  int64_t batch;
};

Scene choose_scene(const ShowOptions& options, const Workload& workload) {
  if (options.length || options.key_length) {
    const int64_t queries = options.length ? *options.length : *options.key_length;
    const int64_t keys = options.key_length ? *options.key_length : queries;
    check_range("--lengths", queries, 0, kLongestLength, "give a shorter length");
    check_range("--key-lengths", keys, 0, kLongestLength, "give a shorter length");
    check_range("--batch-row", options.batch_row, 0, 0, "with --lengths there is one sequence");
    return {.geometry = packed_geometry({queries}, {keys}), .batch_row = 0, .batch = 1};
  }
  check_range("--batch-row", options.batch_row, 0, workload.batch - 1, "name a row of the workload's batch");
  return {.geometry = packed_geometry(sample_lengths(workload.lengths, workload.batch, options.seed)),
          .batch_row = options.batch_row,
          .batch = workload.batch};
}

/// All that the drawings need.
struct Scenery {
  const Workload& workload;  // simplified
  const Scene& scene;
  const BoundPattern& bound;
  int64_t head;
};

TilePicture take_picture(const Scenery& scenery, Tile tile, int64_t max_rows, int64_t max_columns) {
  const TileMap map = classify_tiles(scenery.workload.pattern, scenery.workload.shape, scenery.bound,
                                     scenery.scene.geometry, tile.queries, tile.keys);
  return picture_tiles(map, scenery.scene.geometry.sequences[scenery.scene.batch_row], scenery.scene.batch_row,
                       scenery.head, max_rows, max_columns);
}

/// Cells inside the tiles, an eighth of a tile each way, as long as they can be told apart.
std::optional<TilePicture> take_detail(const Scenery& scenery, Tile tile) {
  const auto finer = [](int64_t size) {
    return size % 8 == 0 ? size / 8 : size % 4 == 0 ? size / 4 : size % 2 == 0 ? size / 2 : size;
  };
  const Tile cell{.queries = finer(tile.queries), .keys = finer(tile.keys)};
  const Sequence& sequence = scenery.scene.geometry.sequences[scenery.scene.batch_row];
  const bool is_worth_it = (cell.queries < tile.queries || cell.keys < tile.keys) &&
                           sequence.query_length <= kMostDetailCells * cell.queries &&
                           sequence.key_length <= kMostDetailCells * cell.keys;
  if (!is_worth_it) return std::nullopt;
  return take_picture(scenery, cell, kMostDetailCells, kMostDetailCells);
}

std::string describe_scene(const Scenery& scenery, Tile tile) {
  const Sequence& sequence = scenery.scene.geometry.sequences[scenery.scene.batch_row];
  return fmt::format("{} queries x {} keys, sequence {} of {}, head {} of {}, tiles of {} x {}", sequence.query_length,
                     sequence.key_length, scenery.scene.batch_row, scenery.scene.batch, scenery.head,
                     scenery.workload.shape.heads, tile.queries, tile.keys);
}

nlohmann::ordered_json as_json(const ShowOptions& options, const Scenery& scenery, Tile tile,
                               const TilePicture& picture, const std::vector<std::string>& notes) {
  std::vector<std::string> rows;
  for (int64_t row = 0; row < picture.rows; ++row) {
    std::string text;
    for (int64_t column = 0; column < picture.columns; ++column) {
      const CellKind kind = picture.kind(row, column);
      text += kind == CellKind::kFull ? '#' : kind == CellKind::kPartial ? '+' : '.';
    }
    rows.push_back(text);
  }
  return {{"command", "show"},
          {"file", options.file},
          {"mask", print(scenery.workload.pattern.mask)},
          {"query_length", picture.query_length},
          {"key_length", picture.key_length},
          {"batch_row", scenery.scene.batch_row},
          {"head", scenery.head},
          {"tile", {tile.queries, tile.keys}},
          {"tiles", {{"full", picture.tiles.full}, {"partial", picture.tiles.partial}, {"empty", picture.tiles.empty}}},
          {"cell", {picture.cell_queries, picture.cell_keys}},
          {"cells", rows},
          {"keys_a_row", picture.work},
          {"notes", notes}};
}

/// The plan that `compile` would choose, or why there is none.
std::string plan_on_gpu(const Workload& workload, CudaFamily family) {
  try {
    return print(choose_cuda_plan(workload, family));
  } catch (const InvalidInput& error) {
    return fmt::format("none: {}", error.what());
  }
}

/// By what runs it, in the order in which they are printed.
std::vector<std::pair<const char*, std::string>> plans_of(const Workload& workload) {
  return {{"cpu", print(choose_cpu_plan(workload, host_target()))},
          {"sm_90a", plan_on_gpu(workload, CudaFamily::kSm90)},
          {"sm_80", plan_on_gpu(workload, CudaFamily::kSm80)}};
}

}  // namespace

int show_command(const ShowOptions& options, Streams& streams) {
  Workload workload = read_workload(options.file);
  const Pattern written = workload.pattern;
  workload.pattern = simplify(workload.pattern);
  check_range("--head", options.head, 0, workload.shape.heads - 1, "name a head of the workload");
  const int columns = options.width.value_or(streams.columns);
  check_range("--width", columns, 20, 10000, "give the terminal's width in characters");
  const Scene scene = choose_scene(options, workload);

  NamedArrays arrays = read_bindings(options.bindings, written);
  const std::vector<std::string> notes =
      draw_unbound(arrays, workload.pattern, workload.shape, scene.geometry, options.seed);
  const BoundPattern bound =
      harrier::bind(workload.pattern, workload.shape, lower_pattern(workload.pattern, workload.shape), scene.geometry,
                    needed_by(workload.pattern, arrays.bindings()));
  const Scenery scenery{.workload = workload, .scene = scene, .bound = bound, .head = options.head};
  const CpuPlan plan = choose_cpu_plan(workload, CpuTarget{});
  const Tile tile = options.tile ? parse_tile(*options.tile) : Tile{.queries = plan.tile_q, .keys = plan.tile_k};

  const Sequence& sequence = scene.geometry.sequences[scene.batch_row];
  const TilePicture picture =
      take_picture(scenery, tile, kMostTerminalRows, cells_that_fit(columns, sequence.query_length));
  if (!options.svg.empty()) {
    const TilePicture large = take_picture(scenery, tile, kMostSvgCells, kMostSvgCells);
    const bool is_shrunk = large.cell_queries > tile.queries;
    write_text_file(options.svg,
                    draw_svg(large, is_shrunk ? std::nullopt : take_detail(scenery, tile),
                             {.title = print(workload.pattern.mask), .subtitle = describe_scene(scenery, tile)}));
  }

  if (options.json) {
    nlohmann::ordered_json json = as_json(options, scenery, tile, picture, notes);
    for (const auto& [name, text] : plans_of(workload)) json["plans"][name] = text;
    if (!options.svg.empty()) json["svg"] = options.svg;
    print_json(json, streams.out);
    return kSuccess;
  }
  for (const std::string& note : notes) fmt::print(streams.error, "harrier: note: {} (seed {})\n", note, options.seed);
  fmt::print(streams.out, "{}: {}\n{}\n", workload.name, print(workload.pattern.mask), describe_scene(scenery, tile));
  if (picture.cell_queries > tile.queries) {
    fmt::print(streams.out, "one cell is {} x {} tiles\n", picture.cell_queries / tile.queries,
               picture.cell_keys / tile.keys);
  }
  fmt::print(streams.out, "\n{}\n{}\n", draw_in_terminal(picture, streams.has_color),
             terminal_legend(picture, streams.has_color));
  for (const auto& [name, text] : plans_of(workload)) fmt::print(streams.out, "plan {:<8}{}\n", name, text);
  if (!options.svg.empty()) fmt::print(streams.out, "drawn in {}\n", options.svg);
  return kSuccess;
}

}  // namespace harrier
