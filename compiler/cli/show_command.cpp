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
#include "cli/workload_file.h"
#include "compiler/cpu_backend.h"
#include "compiler/cuda/choose_cuda_plan.h"
#include "compiler/harrier.h"
#include "compiler/harrier_show.h"
#include "compiler/passes/choose_plan.h"
#include "compiler/passes/simplify.h"
#include "ir/geometry.h"

namespace harrier {
namespace {

constexpr int64_t kLongestLength = (int64_t{1} << 31) - 1;
constexpr int64_t kLargestTile = 4096;

TileSize parse_tile(const std::string& text) {
  TileSize tile{};
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

nlohmann::ordered_json as_json(const ShowOptions& options, const Scene& scene, const Drawing& drawing,
                               const std::vector<std::string>& notes) {
  const TilePicture& picture = drawing.picture;
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
          {"mask", drawing.mask},
          {"query_length", picture.query_length},
          {"key_length", picture.key_length},
          {"batch_row", scene.batch_row},
          {"head", options.head},
          {"tile", {drawing.tile.queries, drawing.tile.keys}},
          {"tiles", {{"full", picture.tiles.full}, {"partial", picture.tiles.partial}, {"empty", picture.tiles.empty}}},
          {"cell", {picture.cell_queries, picture.cell_keys}},
          {"cells", rows},
          {"keys_a_row", picture.work},
          {"notes", notes}};
}

/// The plan that `compile` would choose, or why there is none.
std::string plan_on_gpu(const Workload& workload, CudaFamily family) {
  try {
    return print(choose_cuda_plan(workload, family), workload.shape.direction);
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
  const Drawing drawing = draw(workload, scene.geometry, needed_by(workload.pattern, arrays.bindings()),
                               {.batch_row = scene.batch_row,
                                .head = options.head,
                                .tile = options.tile ? std::optional(parse_tile(*options.tile)) : std::nullopt,
                                .columns = columns,
                                .has_color = streams.has_color,
                                .has_svg = !options.svg.empty()});
  if (!options.svg.empty()) write_text_file(options.svg, drawing.svg);

  if (options.json) {
    nlohmann::ordered_json json = as_json(options, scene, drawing, notes);
    for (const auto& [name, text] : plans_of(workload)) json["plans"][name] = text;
    if (!options.svg.empty()) json["svg"] = options.svg;
    print_json(json, streams.out);
    return kSuccess;
  }
  for (const std::string& note : notes) fmt::print(streams.error, "harrier: note: {} (seed {})\n", note, options.seed);
  fmt::print(streams.out, "{}: {}\n{}\n", workload.name, drawing.mask, drawing.scene);
  if (drawing.picture.cell_queries > drawing.tile.queries) {
    fmt::print(streams.out, "one cell is {} x {} tiles\n", drawing.picture.cell_queries / drawing.tile.queries,
               drawing.picture.cell_keys / drawing.tile.keys);
  }
  fmt::print(streams.out, "\n{}\n", drawing.terminal);
  for (const auto& [name, text] : plans_of(workload)) fmt::print(streams.out, "plan {:<8}{}\n", name, text);
  if (!options.svg.empty()) fmt::print(streams.out, "drawn in {}\n", options.svg);
  return kSuccess;
}

}  // namespace harrier
