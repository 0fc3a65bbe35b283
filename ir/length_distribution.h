// How long the sequences of a workload are: what the tuner tunes for and what `run` draws when it is given no arrays.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace harrier {

struct FixedLength {
  int64_t length;
  bool operator==(const FixedLength&) const = default;
};

/// Every integer of [min, max] alike.
struct UniformLength {
  int64_t min;
  int64_t max;
  bool operator==(const UniformLength&) const = default;
};

/// exp(N(mu, sigma^2)) with mu chosen so that the mean before clamping is `mean`, rounded, clamped to [min, max].
struct LognormalLength {
  double mean;
  double sigma;
  int64_t min;
  int64_t max;
  bool operator==(const LognormalLength&) const = default;
};

struct HistogramBin {
  int64_t length;
  double weight;
  bool operator==(const HistogramBin&) const = default;
};

struct HistogramLength {
  std::vector<HistogramBin> bins;  // weights are relative, each > 0
  bool operator==(const HistogramLength&) const = default;
};

/// The lengths of a CSV file: the column named `length` where there is a header, else the first column. `path` is as
/// written; a relative one is meant from the folder of the .attn file. `lengths` is filled by load_trace.
struct TraceLength {
  std::string path;
  std::vector<int64_t> lengths = {};
  bool operator==(const TraceLength&) const = default;
};

using LengthDistribution = std::variant<FixedLength, UniformLength, LognormalLength, HistogramLength, TraceLength>;

/// Reads a trace's lengths, `folder` being where a relative path starts. Leaves other kinds alone. Throws InvalidInput
/// naming file, line and value when a row holds no length in [0, 2^31).
void load_trace(LengthDistribution& distribution, const std::string& folder);

/// `count` lengths, the same for the same seed on every platform. A trace is drawn from in its own order, from a seeded
/// start.
std::vector<int64_t> sample_lengths(const LengthDistribution& distribution, int64_t count, uint64_t seed);

/// The length below which the fraction p in [0, 1] of sequences falls (of the clamped distribution; exact for all
/// kinds).
int64_t quantile(const LengthDistribution& distribution, double p);

}  // namespace harrier
