// Which of several measured kernels are worth shipping.
#pragma once

#include <cstddef>
#include <vector>

namespace harrier {

struct KernelChoice {
  std::vector<size_t> kept;       // candidates, rising
  std::vector<size_t> of_bucket;  // for each bucket the place in `kept` of the fastest one
};

/// A small set of candidates of which, in every bucket, one takes at most `most_slowdown` times what the best of all
/// takes: greedy set cover, then without what turned out needless. microseconds[candidate][bucket]: positive, infinity
/// where a candidate does not run. Deterministic: ties go to the smaller sum of slowdowns, then to the first. Throws
/// InvalidInput for no candidates, rows of unequal length, times that are none, and buckets in which nothing runs.
KernelChoice choose_kernels(const std::vector<std::vector<double>>& microseconds, double most_slowdown);

}  // namespace harrier
