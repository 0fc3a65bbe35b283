#include "compiler/show/svg.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace harrier {
namespace {

// Pixels.
constexpr double kLongSide = 640;
constexpr double kLeft = 76;
constexpr double kRight = 28;
constexpr double kBarGap = 18;
constexpr double kBarWidth = 120;
constexpr double kTitleLine = 21;
constexpr double kGridFrom = 5;    // narrower cells are drawn without a grid
constexpr double kCountFrom = 18;  // and narrower ones without their multiplicity
constexpr size_t kTitleCharacters = 84;

constexpr std::string_view kStyle = R"(<style>
  .page { fill: #ffffff }
  .ink { fill: #1d2733 }
  .faint { fill: #66727f }
  .empty { fill: #eef1f4 }
  .full { fill: #2f6db5 }
  .partial { fill: #f8dcae }
  .shown { fill: #e0962f }
  .mixed { fill: #efb864 }
  .work { fill: #9fb3c8 }
  .count { fill: #ffffff }
  .grid { stroke: #ffffff; stroke-opacity: 0.75; fill: none }
  .frame { stroke: #aab4bf; fill: none }
  .chip { stroke: #aab4bf }
  text { font-family: ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; font-size: 12px }
  .title { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 14px; font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #14181d }
    .ink { fill: #e4e9ee }
    .faint { fill: #98a4b0 }
    .empty { fill: #20262d }
    .full { fill: #5b9be0 }
    .partial { fill: #4d3a1c }
    .shown { fill: #e9a94b }
    .mixed { fill: #a8762e }
    .work { fill: #4f6478 }
    .count { fill: #10141a }
    .grid { stroke: #14181d }
    .frame, .chip { stroke: #46515c }
  }
</style>
)";

std::string escaped(std::string_view text) {
  std::string result;
  for (const char character : text) {
    switch (character) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += character;
    }
  }
  return result;
}

/// Breaks at blanks, so that no line is longer than `width` unless one word is.
std::vector<std::string> wrapped(std::string_view text, size_t width) {
  std::vector<std::string> lines;
  while (text.size() > width) {
    size_t cut = text.rfind(' ', width);
    if (cut == std::string_view::npos || cut == 0) cut = text.find(' ', width);
    if (cut == std::string_view::npos) break;
    lines.emplace_back(text.substr(0, cut));
    text.remove_prefix(cut + 1);
  }
  lines.emplace_back(text);
  return lines;
}

struct Layout {
  double top;
  double width;  // of the grid
  double height;
  double per_query;
  double per_key;
  double bars_left() const { return kLeft + width + kBarGap; }
  double bottom() const { return top + height; }
};

Layout lay_out(const TilePicture& picture, size_t title_lines) {
  const auto queries = static_cast<double>(std::max<int64_t>(1, picture.query_length));
  const auto keys = static_cast<double>(std::max<int64_t>(1, picture.key_length));
  Layout layout{};
  layout.top = 94 + kTitleLine * static_cast<double>(title_lines);
  // A pair is as wide as it is high, within reason: very long and narrow grids are stretched to a tenth.
  layout.width = queries > keys ? std::max(kLongSide * keys / queries, kLongSide / 10) : kLongSide;
  layout.height = queries > keys ? kLongSide : std::max(kLongSide * queries / keys, kLongSide / 10);
  layout.per_query = layout.height / queries;
  layout.per_key = layout.width / keys;
  return layout;
}

/// One path for all rectangles of a class: far smaller than an element each.
class RectanglePath {
 public:
  void add(double x, double y, double width, double height) {
    path_ += fmt::format("M{:.5g} {:.5g}h{:.5g}v{:.5g}h{:.5g}z", x, y, width, height, -width);
  }
  std::string element(std::string_view css_class) const {
    return path_.empty() ? "" : fmt::format("<path class=\"{}\" d=\"{}\"/>\n", css_class, path_);
  }

 private:
  std::string path_;
};

/// Adds the cells of one kind, neighbours in a row merged, that lie in a cell of `within` that is partial (when given).
RectanglePath cells_of(const TilePicture& picture, CellKind kind, const Layout& layout, const TilePicture* within) {
  RectanglePath path;
  const auto is_drawn = [&](int64_t row, int64_t column) {
    if (picture.kind(row, column) != kind) return false;
    return within == nullptr || within->kind(row * picture.cell_queries / within->cell_queries,
                                             column * picture.cell_keys / within->cell_keys) == CellKind::kPartial;
  };
  for (int64_t row = 0; row < picture.rows; ++row) {
    const int64_t query_end = std::min((row + 1) * picture.cell_queries, picture.query_length);
    for (int64_t column = 0; column < picture.columns; ++column) {
      if (!is_drawn(row, column)) continue;
      const int64_t first = column;
      while (column + 1 < picture.columns && is_drawn(row, column + 1)) ++column;
      const int64_t key_end = std::min((column + 1) * picture.cell_keys, picture.key_length);
      path.add(kLeft + layout.per_key * static_cast<double>(first * picture.cell_keys),
               layout.top + layout.per_query * static_cast<double>(row * picture.cell_queries),
               layout.per_key * static_cast<double>(key_end - first * picture.cell_keys),
               layout.per_query * static_cast<double>(query_end - row * picture.cell_queries));
    }
  }
  return path;
}

std::string grid_lines(const TilePicture& picture, const Layout& layout) {
  const double cell_width = layout.per_key * static_cast<double>(picture.cell_keys);
  const double cell_height = layout.per_query * static_cast<double>(picture.cell_queries);
  if (std::min(cell_width, cell_height) < kGridFrom) return "";
  std::string path;
  for (int64_t row = 1; row < picture.rows; ++row) {
    path += fmt::format("M{} {:.5g}h{:.5g}", kLeft, layout.top + cell_height * static_cast<double>(row), layout.width);
  }
  for (int64_t column = 1; column < picture.columns; ++column) {
    path += fmt::format("M{:.5g} {:.5g}v{:.5g}", kLeft + cell_width * static_cast<double>(column), layout.top,
                        layout.height);
  }
  return fmt::format("<path class=\"grid\" d=\"{}\"/>\n", path);
}

/// "×4" in full tiles whose keys count more than once.
std::string multiplicities(const TilePicture& picture, const Layout& layout) {
  const double cell_width = layout.per_key * static_cast<double>(picture.cell_keys);
  const double cell_height = layout.per_query * static_cast<double>(picture.cell_queries);
  if (std::min(cell_width, cell_height) < kCountFrom) return "";
  std::string text;
  for (int64_t row = 0; row < picture.rows; ++row) {
    for (int64_t column = 0; column < picture.columns; ++column) {
      const int64_t count = picture.counts[row * picture.columns + column];
      if (count <= 1) continue;
      text += fmt::format("<text class=\"count\" text-anchor=\"middle\" x=\"{:.5g}\" y=\"{:.5g}\">×{}</text>\n",
                          kLeft + cell_width * (static_cast<double>(column) + 0.5),
                          layout.top + cell_height * (static_cast<double>(row) + 0.5) + 4, count);
    }
  }
  return text;
}

/// About eight round positions from 0 to the length.
std::vector<int64_t> ticks(int64_t length) {
  int64_t step = 1;
  while (length / step > 8) step *= 2;
  std::vector<int64_t> positions;
  for (int64_t at = 0; at <= length; at += step) positions.push_back(at);
  return positions;
}

std::string axes(const TilePicture& picture, const Layout& layout) {
  std::string text = fmt::format(
      "<text class=\"faint\" x=\"{}\" y=\"{:.5g}\">keys →</text>\n"
      "<text class=\"faint\" text-anchor=\"end\" transform=\"translate(16 {:.5g}) rotate(-90)\">← queries</text>\n",
      kLeft, layout.top - 26, layout.top);
  for (const int64_t at : ticks(picture.key_length)) {
    text += fmt::format("<text class=\"faint\" text-anchor=\"middle\" x=\"{:.5g}\" y=\"{:.5g}\">{}</text>\n",
                        kLeft + layout.per_key * static_cast<double>(at), layout.top - 8, at);
  }
  for (const int64_t at : ticks(picture.query_length)) {
    text += fmt::format("<text class=\"faint\" text-anchor=\"end\" x=\"{:.5g}\" y=\"{:.5g}\">{}</text>\n", kLeft - 8,
                        layout.top + layout.per_query * static_cast<double>(at) + 4, at);
  }
  return text;
}

std::string work_bars(const TilePicture& picture, const Layout& layout) {
  const double most = picture.work.empty() ? 0 : *std::max_element(picture.work.begin(), picture.work.end());
  const double row_height = layout.per_query * static_cast<double>(picture.cell_queries);
  const double gap = row_height > kGridFrom ? 1 : 0;
  RectanglePath path;
  for (int64_t row = 0; row < picture.rows && most > 0; ++row) {
    const double top = layout.top + row_height * static_cast<double>(row);
    path.add(layout.bars_left(), top + gap / 2, kBarWidth * picture.work[row] / most,
             std::max(std::min(row_height, layout.bottom() - top) - gap, 0.1));
  }
  return path.element("work") +
         fmt::format(
             "<text class=\"faint\" x=\"{:.5g}\" y=\"{:.5g}\">keys a row</text>\n"
             "<text class=\"faint\" text-anchor=\"end\" x=\"{:.5g}\" y=\"{:.5g}\">{:.0f}</text>\n",
             layout.bars_left(), layout.top - 26, layout.bars_left() + kBarWidth, layout.top - 8, most);
}

std::string legend(const TilePicture& picture, const Layout& layout) {
  const TileCounts& tiles = picture.tiles;
  const auto all = static_cast<double>(std::max<int64_t>(1, tiles.full + tiles.partial + tiles.empty));
  struct Entry {
    const char* css_class;
    const char* name;
    int64_t count;
  };
  double x = kLeft;
  std::string text;
  for (const Entry& entry : {Entry{"full", "full", tiles.full}, Entry{"mixed", "partial", tiles.partial},
                             Entry{"empty", "empty", tiles.empty}}) {
    const std::string label =
        fmt::format("{} {} ({:.1f} %)", entry.name, entry.count, 100.0 * static_cast<double>(entry.count) / all);
    text += fmt::format(
        "<rect class=\"{} chip\" x=\"{:.5g}\" y=\"{:.5g}\" width=\"14\" height=\"14\" rx=\"2\"/>\n"
        "<text class=\"ink\" x=\"{:.5g}\" y=\"{:.5g}\">{}</text>\n",
        entry.css_class, x, layout.bottom() + 22, x + 20, layout.bottom() + 33, label);
    x += 44 + 7 * static_cast<double>(label.size());
  }
  return text;
}

}  // namespace

std::string draw_svg(const TilePicture& picture, const std::optional<TilePicture>& detail, const SvgText& text) {
  const std::vector<std::string> title = wrapped(text.title, kTitleCharacters);
  const Layout layout = lay_out(picture, title.size());
  const double width = std::max(layout.bars_left() + kBarWidth + kRight, kLeft + kLongSide);
  const double height = layout.bottom() + 58;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.5g} {1:.5g}\" width=\"{0:.5g}\" height=\"{1:.5g}\" "
      "role=\"img\">\n",
      width, height);
  svg += fmt::format("<title>{}</title>\n", escaped(text.title));
  svg += kStyle;
  svg += "<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n";
  double y = 34;
  for (const std::string& line : title) {
    svg += fmt::format("<text class=\"ink title\" x=\"{}\" y=\"{:.5g}\">{}</text>\n", kLeft, y, escaped(line));
    y += kTitleLine;
  }
  svg += fmt::format("<text class=\"faint\" x=\"{}\" y=\"{:.5g}\">{}</text>\n", kLeft, y, escaped(text.subtitle));
  svg += cells_of(picture, CellKind::kEmpty, layout, nullptr).element("empty");
  svg += cells_of(picture, CellKind::kFull, layout, nullptr).element("full");
  svg += cells_of(picture, CellKind::kPartial, layout, nullptr).element(detail ? "partial" : "mixed");
  if (detail) {
    svg += cells_of(*detail, CellKind::kPartial, layout, &picture).element("mixed");
    svg += cells_of(*detail, CellKind::kFull, layout, &picture).element("shown");
  }
  svg += grid_lines(picture, layout);
  svg += fmt::format("<rect class=\"frame\" x=\"{:.5g}\" y=\"{:.5g}\" width=\"{:.5g}\" height=\"{:.5g}\"/>\n", kLeft,
                     layout.top, layout.width, layout.height);
  svg += multiplicities(picture, layout);
  svg += axes(picture, layout);
  svg += work_bars(picture, layout);
  svg += legend(picture, layout);
  return svg + "</svg>\n";
}

}  // namespace harrier
