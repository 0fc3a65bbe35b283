// Drawings of patterns.
#include <fmt/format.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <utility>

#include "arrays.h"
#include "bindings.h"
#include "compiler/harrier_show.h"
#include "ir/error.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace harrier::python {
namespace {

using Lengths64 = std::vector<int64_t>;

Drawing draw_workload(const Workload& workload, const Lengths64& lengths, const Lengths64& key_lengths,
                      const ReadArrays& arrays, std::optional<std::pair<int64_t, int64_t>> tile, DrawOptions options) {
  for (const Lengths64& each : {lengths, key_lengths}) {
    for (const int64_t length : each) {
      constexpr int64_t kLongest = (int64_t{1} << 31) - 1;
      if (length < 0 || length > kLongest) {
        throw InvalidInput(fmt::format("a length is {}, expected 0 to {}; give a shorter one", length, kLongest));
      }
    }
  }
  if (tile) {
    if (tile->first < 1 || tile->second < 1) {
      throw InvalidInput(
          fmt::format("tile is {} x {}, expected queries x keys, each 1 or more", tile->first, tile->second));
    }
    options.tile = TileSize{.queries = tile->first, .keys = tile->second};
  }
  if (options.columns < 20) {
    throw InvalidInput(fmt::format("columns is {}, expected 20 or more; give a terminal's width", options.columns));
  }
  const Bindings bindings = view_bindings(arrays);
  const nb::gil_scoped_release unlocked;
  return draw(workload, packed_geometry(lengths, key_lengths), bindings, options);
}

}  // namespace

void bind_show(nb::module_& module) {
  nb::class_<Drawing>(module, "Drawing", "The tiles of one head of one sequence, drawn.")
      .def_ro("mask", &Drawing::mask)
      .def_ro("scene", &Drawing::scene)
      .def_ro("terminal", &Drawing::terminal)
      .def_ro("svg", &Drawing::svg)
      .def_prop_ro("full_tiles", [](const Drawing& self) { return self.picture.tiles.full; })
      .def_prop_ro("partial_tiles", [](const Drawing& self) { return self.picture.tiles.partial; })
      .def_prop_ro("empty_tiles", [](const Drawing& self) { return self.picture.tiles.empty; });

  module.def(
      "draw",
      [](const Workload& workload, const Lengths64& lengths, const Lengths64& key_lengths, const ReadArrays& arrays,
         int64_t batch_row, int64_t head, std::optional<std::pair<int64_t, int64_t>> tile, int columns,
         bool has_color) {
        return draw_workload(
            workload, lengths, key_lengths, arrays, tile,
            {.batch_row = batch_row, .head = head, .columns = columns, .has_color = has_color, .has_svg = true});
      },
      "workload"_a, "lengths"_a, "key_lengths"_a, "arrays"_a, "batch_row"_a, "head"_a, "tile"_a.none(), "columns"_a,
      "has_color"_a);
}

}  // namespace harrier::python
