#include "compiler/show/terminal.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

namespace harrier {
namespace {

constexpr int kBarCharacters = 10;
constexpr int kWorkCharacters = 12;  // the number behind the bar, and blanks
constexpr int64_t kFewestCells = 4;

struct Style {
  std::string_view text;
  std::string_view color;  // ANSI
};

Style style_of(CellKind kind, int64_t count) {
  switch (kind) {
    case CellKind::kEmpty:
      return {"··", "\x1b[90m"};
    case CellKind::kPartial:
      return {"▒▒", "\x1b[33m"};
    case CellKind::kFull:
      break;
  }
  return count > 1 ? Style{"▓▓", "\x1b[36m"} : Style{"██", "\x1b[34m"};
}

std::string painted(const Style& style, bool has_color) {
  return has_color ? fmt::format("{}{}\x1b[0m", style.color, style.text) : std::string(style.text);
}

/// A bar of `share` of kBarCharacters, in eighths of a character, padded with blanks.
std::string bar(double share) {
  constexpr std::array<std::string_view, 8> kEighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::lround(share * kBarCharacters * 8));
  std::string result;
  for (int i = 0; i < eighths / 8; ++i) result += "█";
  result += kEighths[eighths % 8];
  result.append(kBarCharacters - (eighths + 7) / 8, ' ');
  return result;
}

int label_width(int64_t query_length) { return static_cast<int>(fmt::format("{}", query_length).size()) + 2; }

}  // namespace

int64_t cells_that_fit(int columns, int64_t query_length) {
  const int64_t room = columns - label_width(query_length) - kBarCharacters - kWorkCharacters;
  return std::max(kFewestCells, room / 2);
}

std::string draw_in_terminal(const TilePicture& picture, bool has_color) {
  const int width = label_width(picture.query_length);
  const double most = picture.work.empty() ? 0 : *std::max_element(picture.work.begin(), picture.work.end());
  std::string text;
  for (int64_t row = 0; row < picture.rows; ++row) {
    text += fmt::format("{:>{}} ", row * picture.cell_queries, width - 1);
    for (int64_t column = 0; column < picture.columns; ++column) {
      const int64_t cell = row * picture.columns + column;
      text += painted(style_of(picture.cells[cell], picture.counts[cell]), has_color);
    }
    text += fmt::format("  {} {:.0f}\n", bar(most > 0 ? picture.work[row] / most : 0), picture.work[row]);
  }
  return text;
}

std::string terminal_legend(const TilePicture& picture, bool has_color) {
  const TileCounts& tiles = picture.tiles;
  const auto all = static_cast<double>(std::max<int64_t>(1, tiles.full + tiles.partial + tiles.empty));
  const auto entry = [&](CellKind kind, const char* name, int64_t count) {
    return fmt::format("{} {} {} ({:.1f} %)", painted(style_of(kind, 1), has_color), name, count,
                       100.0 * static_cast<double>(count) / all);
  };
  std::string text = entry(CellKind::kFull, "full", tiles.full);
  const bool has_counted = std::any_of(picture.counts.begin(), picture.counts.end(), [](int64_t c) { return c > 1; });
  if (has_counted)
    text += fmt::format("   {} full, counted more than once", painted(style_of(CellKind::kFull, 2), has_color));
  text += "   " + entry(CellKind::kPartial, "partial", tiles.partial);
  return text + "   " + entry(CellKind::kEmpty, "empty", tiles.empty);
}

}  // namespace harrier
