// Random patterns with arrays that fit them: input of the property tests. Everything follows from the generator's seed.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

struct RandomArrays {
  Bindings bindings;
  std::vector<std::shared_ptr<void>> owned;
};

struct MaskChoices {
  int max_depth = 3;
  bool counted = true;      // counted block lists and bigbird may occur
  bool tables = true;       // block tables, lists and bigbird may occur
  bool expressions = true;  // where(...) may occur
  bool bigbird = true;      // bigbird may occur: needs queries and keys of the same length
  std::vector<int64_t> block_sizes = {1, 2, 3, 4, 8, 16};
};

/// A mask of random atoms and operators; array names are fresh ("a0", "a1", ...). Seeded bigbird is left out: it
/// refuses short sequences.
Mask random_mask(std::mt19937_64& random, const MaskChoices& choices);

/// A batch of ragged sequences: lengths from 0 to max_length, q and kv lengths equal or not, padded (valid < extent) or
/// packed.
Geometry random_geometry(std::mt19937_64& random, int64_t max_batch, int64_t max_length, bool same_lengths);

/// Arrays for every name in the pattern, right in shape, type and range for this geometry (padded ones, 2-D or packed
/// where roles allow both). Indices of loads must be a variable, a number, or `... % number`.
RandomArrays random_arrays(std::mt19937_64& random, const Pattern& pattern, const Shape& shape,
                           const Geometry& geometry);

}  // namespace harrier
