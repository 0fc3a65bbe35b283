// How long the sequences of a workload are, in five numbers: what tunings are found by.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ir/workload.h"

namespace harrier::autotune {

struct LengthSketch {
  int64_t batch = 1;
  int64_t p10 = 0;  // lengths below which so many percent of the sequences fall
  int64_t p50 = 0;
  int64_t p90 = 0;
  int64_t longest = 0;
  bool operator==(const LengthSketch&) const = default;
};

LengthSketch sketch_of(const LengthDistribution& lengths, int64_t batch);

/// "batch=3 p10=9 p50=11 p90=11 longest=12": powers of two, rounded. Workloads of one bucket share a tuning.
std::string bucket_of(const LengthSketch& sketch);

/// "batch=8 p10=800 p50=1700 p90=3900 longest=4096": the numbers themselves.
std::string to_text(const LengthSketch& sketch);
/// Nothing for what to_text did not write.
std::optional<LengthSketch> sketch_of_text(const std::string& text);

/// How far two sketches are apart, in powers of two: the root of the mean square. 0 for the same, symmetric.
double distance(const LengthSketch& a, const LengthSketch& b);

}  // namespace harrier::autotune
