// Drawing as an SVG file.
#pragma once

#include <optional>
#include <string>

#include "compiler/show/tile_picture.h"

namespace harrier {

struct SvgText {
  std::string title;     // the pattern
  std::string subtitle;  // sequence, head, tile
};

/// A self-contained picture: tile grid, axes, bars of work, legend; follows the viewer's light or dark scheme.
/// `detail`, where given, pictures the same sequence in finer cells, drawn inside partial tiles.
std::string draw_svg(const TilePicture& picture, const std::optional<TilePicture>& detail, const SvgText& text);

}  // namespace harrier
