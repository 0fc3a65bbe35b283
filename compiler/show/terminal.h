// Drawing in a terminal.
#pragma once

#include <string>

#include "compiler/show/tile_picture.h"

namespace harrier {

/// Cells of tiles that fit side by side into `columns` characters, beside labels and the bars of work.
int64_t cells_that_fit(int columns, int64_t query_length);

/// One line a row of cells: the first query, the cells two characters wide, a bar of its work. Full, partial and empty
/// are told apart by their characters; `has_color` adds colour.
std::string draw_in_terminal(const TilePicture& picture, bool has_color);

/// "full 10 (62.5 %)   partial 4 (25.0 %)   empty 2 (12.5 %)", each with its character.
std::string terminal_legend(const TilePicture& picture, bool has_color);

}  // namespace harrier
