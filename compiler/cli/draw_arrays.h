// Plausible seeded arrays for names that nobody bound: for a look at a pattern, or a run on random data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/workload_file.h"
#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

/// SplitMix64: the same numbers for the same seed on every platform.
class SeededNumbers {
 public:
  explicit SeededNumbers(uint64_t seed) : state_(seed) {}
  uint64_t next();
  /// A whole number in [low, high].
  int64_t between(int64_t low, int64_t high);
  /// In [0, 1).
  double fraction();

 private:
  uint64_t state_;
};

/// Adds an array for each name of `pattern` that `arrays` lacks, right in shape, type and range for `geometry`
/// (packed): block tables of about 10 % and their diagonal, documents of a quarter of a sequence, two to four global
/// tokens, ALiBi's own slopes. Returns one line about each. Throws InvalidInput when one would be larger than 4 GiB.
std::vector<std::string> draw_unbound(NamedArrays& arrays, const Pattern& pattern, const Shape& shape,
                                      const Geometry& geometry, uint64_t seed);

}  // namespace harrier
