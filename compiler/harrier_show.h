// The public entry to drawings: which tiles of one head of one sequence a pattern computes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "compiler/show/tile_picture.h"
#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

struct TileSize {
  int64_t queries;
  int64_t keys;
};

struct DrawOptions {
  int64_t batch_row = 0;  // of the geometry
  int64_t head = 0;
  std::optional<TileSize> tile = {};  // instead of the CPU's
  int columns = 80;                   // characters of the terminal
  bool has_color = false;
  bool has_svg = false;  // SVG takes a while where there are many tiles
};

struct Drawing {
  std::string mask;   // simplified
  std::string scene;  // lengths, sequence, head, tile
  TileSize tile;
  TilePicture picture;   // what the terminal shows
  std::string terminal;  // rows and legend
  std::string svg;       // empty unless asked for
};

/// Draws a workload on these lengths. Every array that the simplified mask names must be bound. Throws InvalidInput: a
/// row or head that is not there, arrays that do not fit.
Drawing draw(const Workload& workload, const Geometry& geometry, const Bindings& bindings,
             const DrawOptions& options = {});

}  // namespace harrier
