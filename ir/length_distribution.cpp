#include "ir/length_distribution.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "ir/match.h"
#include "ir/verify.h"
#include "ir/verify_rules.h"

namespace harrier {
namespace {

/// Steele, Lea and Flood's SplitMix64: a step by an odd constant, then a mix. The same on every platform, which the
/// standard library's distributions are not.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31U);
  }

  /// One of the 2^53 equally spaced numbers in (0, 1].
  double next_fraction() { return static_cast<double>((next() >> 11U) + 1) * 0x1p-53; }

 private:
  uint64_t state_;
};

/// Lengths up to here have the fraction p of the sequences: the smallest length of a sorted list that does.
int64_t quantile_of_sorted(const std::vector<int64_t>& lengths, double p) {
  const auto count = static_cast<double>(lengths.size());
  const double rank = std::clamp(std::ceil(p * count), 1.0, count);
  return lengths[static_cast<std::size_t>(rank) - 1];
}

int64_t quantile_of(const UniformLength& uniform, double p) {
  const auto count = static_cast<double>(uniform.max - uniform.min + 1);
  return uniform.min + static_cast<int64_t>(std::clamp(std::ceil(p * count), 1.0, count)) - 1;
}

/// The fraction of unclamped draws that round to `length` or less.
double fraction_up_to(const LognormalLength& lognormal, int64_t length) {
  const double limit = static_cast<double>(length) + 0.5;
  const double mu = std::log(lognormal.mean) - 0.5 * lognormal.sigma * lognormal.sigma;
  if (lognormal.sigma == 0) return lognormal.mean < limit ? 1 : 0;
  return 0.5 * std::erfc((mu - std::log(limit)) / (lognormal.sigma * std::sqrt(2.0)));
}

/// Bisects for the smallest length whose fraction reaches p: exact, as the lengths are integers.
int64_t quantile_of(const LognormalLength& lognormal, double p) {
  if (p >= 1 && lognormal.sigma > 0) return lognormal.max;
  int64_t low = lognormal.min;
  int64_t high = lognormal.max;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (fraction_up_to(lognormal, middle) >= p) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

/// Bins by rising length, each with the weight of all bins up to it.
std::vector<HistogramBin> accumulate(const HistogramLength& histogram) {
  std::vector<HistogramBin> bins = histogram.bins;
  std::ranges::sort(bins, {}, &HistogramBin::length);
  double total = 0;
  for (HistogramBin& bin : bins) bin.weight = total += bin.weight;
  return bins;
}

int64_t quantile_of_accumulated(const std::vector<HistogramBin>& bins, double p) {
  const auto found = std::ranges::lower_bound(bins, p * bins.back().weight, {}, &HistogramBin::weight);
  return found == bins.end() ? bins.back().length : found->length;
}

void check_loaded(const TraceLength& trace) {
  if (trace.lengths.empty()) {
    refuse("trace \"{}\" holds 0 lengths, expected at least one; load it with load_trace", trace.path);
  }
}

/// quantile() with the work that does not depend on p done once.
std::function<int64_t(double)> quantile_function(const LengthDistribution& distribution) {
  using Function = std::function<int64_t(double)>;
  return match(
      distribution,
      [](const FixedLength& fixed) -> Function { return [length = fixed.length](double) { return length; }; },
      [](const UniformLength& uniform) -> Function { return [uniform](double p) { return quantile_of(uniform, p); }; },
      [](const LognormalLength& lognormal) -> Function {
        return [lognormal](double p) { return quantile_of(lognormal, p); };
      },
      [](const HistogramLength& histogram) -> Function {
        return [bins = accumulate(histogram)](double p) { return quantile_of_accumulated(bins, p); };
      },
      [](const TraceLength& trace) -> Function {
        check_loaded(trace);
        std::vector<int64_t> sorted = trace.lengths;
        std::ranges::sort(sorted);
        return [sorted = std::move(sorted)](double p) { return quantile_of_sorted(sorted, p); };
      });
}

}  // namespace

std::vector<int64_t> sample_lengths(const LengthDistribution& distribution, int64_t count, uint64_t seed) {
  verify(distribution);
  if (count < 0) refuse("{} lengths are asked for, expected 0 or more; use the size of the batch", count);
  SplitMix64 random(seed);
  std::vector<int64_t> lengths(static_cast<std::size_t>(count));
  if (const auto* trace = std::get_if<TraceLength>(&distribution)) {
    check_loaded(*trace);
    std::size_t next = random.next() % trace->lengths.size();
    for (int64_t& length : lengths) {
      length = trace->lengths[next];
      next = (next + 1) % trace->lengths.size();
    }
    return lengths;
  }
  // The quantile of an even draw has the distribution that the quantile describes.
  const auto draw = quantile_function(distribution);
  for (int64_t& length : lengths) length = draw(random.next_fraction());
  return lengths;
}

int64_t quantile(const LengthDistribution& distribution, double p) {
  verify(distribution);
  const bool is_fraction = p >= 0 && p <= 1;
  if (!is_fraction) refuse("the quantile of {} is asked for, expected a fraction in 0..1; 0.5 is the median", p);
  return quantile_function(distribution)(p);
}

}  // namespace harrier
