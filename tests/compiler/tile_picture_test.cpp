#include "compiler/show/tile_picture.h"

#include <gtest/gtest.h>

#include <random>

#include "compiler/show/svg.h"
#include "compiler/show/terminal.h"

namespace harrier {
namespace {

KeyRun run(int64_t begin, int64_t end, int32_t count) {
  return {.begin = begin, .end = end, .count = count, .table_counts = 0, .score_add = 0, .count_only = 0};
}

/// One sequence, one head; `rows` are the runs of each query tile.
TileMap make_map(int64_t tile, const std::vector<std::vector<KeyRun>>& rows) {
  TileMap map{.tile_q = tile,
              .tile_k = tile,
              .heads = 1,
              .first_row = {0, static_cast<int64_t>(rows.size())},
              .run_offsets = {0},
              .runs = {}};
  for (const std::vector<KeyRun>& row : rows) {
    map.runs.insert(map.runs.end(), row.begin(), row.end());
    map.run_offsets.push_back(static_cast<int64_t>(map.runs.size()));
  }
  return map;
}

Sequence square(int64_t length) {
  return {.query_length = length, .key_length = length, .query_valid = length, .key_valid = length};
}

/// Causal over 4 x 4 tiles of 4, the last one cut short: 15 positions.
TileMap causal_map() {
  return make_map(
      4,
      {{run(0, 4, 0)}, {run(0, 4, 1), run(4, 8, 0)}, {run(0, 8, 1), run(8, 12, 0)}, {run(0, 12, 1), run(12, 15, 0)}});
}

TEST(TilePicture, OneCellATileWhereThereIsRoom) {
  const TilePicture picture = picture_tiles(causal_map(), square(15), 0, 0, 100, 100);
  EXPECT_EQ(picture.rows, 4);
  EXPECT_EQ(picture.columns, 4);
  EXPECT_EQ(picture.kind(2, 1), CellKind::kFull);
  EXPECT_EQ(picture.kind(2, 2), CellKind::kPartial);
  EXPECT_EQ(picture.kind(2, 3), CellKind::kEmpty);
  EXPECT_EQ(picture.tiles.full, 6);
  EXPECT_EQ(picture.tiles.partial, 4);
  EXPECT_EQ(picture.tiles.empty, 6);
  EXPECT_EQ(picture.work, (std::vector<double>{4, 8, 12, 15}));
}

TEST(TilePicture, TheTerminalTellsClassesApartWithoutColour) {
  const TilePicture picture = picture_tiles(causal_map(), square(15), 0, 0, 100, 100);
  EXPECT_EQ(draw_in_terminal(picture, false),
            "  0 ▒▒······  ██▋        4\n"
            "  4 ██▒▒····  █████▍     8\n"
            "  8 ████▒▒··  ████████   12\n"
            " 12 ██████▒▒  ██████████ 15\n");
  EXPECT_EQ(terminal_legend(picture, false), "██ full 6 (37.5 %)   ▒▒ partial 4 (25.0 %)   ·· empty 6 (37.5 %)");
}

TEST(TilePicture, ColourOnlyAddsToTheCharacters) {
  const TilePicture picture = picture_tiles(causal_map(), square(15), 0, 0, 100, 100);
  std::string text = draw_in_terminal(picture, true);
  EXPECT_NE(text.find("\x1b["), std::string::npos);
  for (size_t at = text.find("\x1b["); at != std::string::npos; at = text.find("\x1b[")) {
    text.erase(at, text.find('m', at) + 1 - at);
  }
  EXPECT_EQ(text, draw_in_terminal(picture, false));
}

TEST(TilePicture, CountedTilesLookDifferentAndShowTheirNumber) {
  const TilePicture picture = picture_tiles(make_map(4, {{run(0, 4, 4), run(4, 8, 1)}}), square(8), 0, 0, 9, 9);
  EXPECT_EQ(picture.counts, (std::vector<int64_t>{4, 1}));
  EXPECT_TRUE(draw_in_terminal(picture, false).starts_with("0 ▓▓██") ||
              draw_in_terminal(picture, false).find("▓▓██") != std::string::npos);
  EXPECT_NE(terminal_legend(picture, false).find("counted more than once"), std::string::npos);
  EXPECT_NE(draw_svg(picture, std::nullopt, {.title = "", .subtitle = ""}).find(">×4</text>"), std::string::npos);
}

TEST(TilePicture, ShrinkingKeepsCountsAndCallsMixedCellsPartial) {
  const TilePicture picture = picture_tiles(causal_map(), square(15), 0, 0, 2, 2);
  EXPECT_EQ(picture.cell_queries, 8);
  EXPECT_EQ(picture.cells,
            (std::vector<CellKind>{CellKind::kPartial, CellKind::kEmpty, CellKind::kFull, CellKind::kPartial}));
  EXPECT_EQ(picture.tiles.full, 6);
  EXPECT_EQ(picture.tiles.partial, 4);
  EXPECT_EQ(picture.tiles.empty, 6);
  EXPECT_EQ(picture.work, (std::vector<double>{6, 13.5}));
}

TEST(TilePicture, EveryCellSaysWhatItsTilesAre) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const auto tiles = static_cast<int64_t>(random() % 20 + 1);
    std::vector<std::vector<int>> kinds(tiles, std::vector<int>(tiles));  // 0 empty, 1 full, 2 partial
    std::vector<std::vector<KeyRun>> rows(tiles);
    for (int64_t row = 0; row < tiles; ++row) {
      for (int64_t column = 0; column < tiles; ++column) {
        kinds[row][column] = static_cast<int>(random() % 3);
        if (kinds[row][column] != 0)
          rows[row].push_back(run(column * 4, column * 4 + 4, kinds[row][column] == 1 ? 1 : 0));
      }
    }
    const auto limit = static_cast<int64_t>(random() % 20 + 1);
    const TilePicture picture = picture_tiles(make_map(4, rows), square(4 * tiles), 0, 0, limit, 100);
    ASSERT_LE(picture.rows, limit);
    const int64_t shrink = picture.cell_queries / 4;
    for (int64_t cell = 0; cell < picture.rows * picture.columns; ++cell) {
      bool is_empty = true;
      bool is_full = true;
      for (int64_t row = cell / picture.columns * shrink; row < std::min(tiles, (cell / picture.columns + 1) * shrink);
           ++row) {
        for (int64_t column = cell % picture.columns * shrink;
             column < std::min(tiles, (cell % picture.columns + 1) * shrink); ++column) {
          is_empty = is_empty && kinds[row][column] == 0;
          is_full = is_full && kinds[row][column] == 1;
        }
      }
      EXPECT_EQ(picture.cells[cell], is_full ? CellKind::kFull : is_empty ? CellKind::kEmpty : CellKind::kPartial);
    }
    EXPECT_EQ(picture.tiles.full + picture.tiles.partial + picture.tiles.empty, tiles * tiles);
  }
}

TEST(TilePicture, ASequenceOfLengthZeroIsAnEmptyPicture) {
  const TilePicture picture = picture_tiles(make_map(4, {}), square(0), 0, 0, 10, 10);
  EXPECT_EQ(draw_in_terminal(picture, false), "");
  EXPECT_NE(draw_svg(picture, std::nullopt, {.title = "none", .subtitle = ""}).find("</svg>"), std::string::npos);
}

TEST(Svg, TextIsEscapedAndLongTitlesAreWrapped) {
  const TilePicture picture = picture_tiles(causal_map(), square(15), 0, 0, 100, 100);
  std::string title;
  for (int i = 0; i < 40; ++i) title += "where(q < k) & ";
  const std::string svg = draw_svg(picture, std::nullopt, {.title = title, .subtitle = "a \"b\""});
  EXPECT_EQ(svg.find("q < k"), std::string::npos);
  EXPECT_NE(svg.find("where(q &lt; k) &amp; where"), std::string::npos);
  EXPECT_NE(svg.find("a &quot;b&quot;"), std::string::npos);
  size_t lines = 0;
  for (size_t at = svg.find("ink title"); at != std::string::npos; at = svg.find("ink title", at + 1)) ++lines;
  EXPECT_GE(lines, 7U);
}

TEST(Svg, DetailIsDrawnInPartialTilesOnly) {
  const TilePicture picture = picture_tiles(causal_map(), square(15), 0, 0, 100, 100);
  const TilePicture none = picture_tiles(make_map(1, std::vector<std::vector<KeyRun>>(15)), square(15), 0, 0, 100, 100);
  const std::string plain = draw_svg(picture, none, {.title = "", .subtitle = ""});
  EXPECT_EQ(plain.find("path class=\"shown\""), std::string::npos);
  std::vector<std::vector<KeyRun>> all(15, {run(0, 15, 1)});
  const std::string drawn =
      draw_svg(picture, picture_tiles(make_map(1, all), square(15), 0, 0, 100, 100), {.title = "", .subtitle = ""});
  EXPECT_NE(drawn.find("path class=\"shown\""), std::string::npos);
}

}  // namespace
}  // namespace harrier
