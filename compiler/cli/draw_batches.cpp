#include "cli/draw_batches.h"

#include <algorithm>
#include <variant>

#include "cli/draw_arrays.h"
#include "ir/geometry.h"

namespace harrier {

DrawnBatches draw_batches(const Workload& workload, const std::vector<BindOption>& bindings, int64_t count,
                          uint64_t seed) {
  DrawnBatches batches;
  const bool alike = std::holds_alternative<FixedLength>(workload.lengths);
  const int64_t drawn = alike ? 1 : count;
  for (int64_t i = 0; i < drawn; ++i) {
    const uint64_t own_seed = seed + static_cast<uint64_t>(i);
    std::vector<int64_t> lengths = sample_lengths(workload.lengths, workload.batch, own_seed);
    // There is nothing to time where nothing is there.
    if (std::ranges::all_of(lengths, [](int64_t length) { return length == 0; })) lengths.front() = 1;
    NamedArrays arrays = read_bindings(bindings, workload.pattern);
    LengthDraw draw{.geometry = packed_geometry(lengths), .bindings = {}};
    std::vector<std::string> notes = draw_unbound(arrays, workload.pattern, workload.shape, draw.geometry, own_seed);
    if (i == 0) batches.notes = std::move(notes);
    batches.arrays.push_back(std::move(arrays));
    draw.bindings = batches.arrays.back().bindings();
    batches.draws.push_back(std::move(draw));
  }
  return batches;
}

}  // namespace harrier
