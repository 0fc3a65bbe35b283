#include "compiler/export/choose_kernels.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/error.h"

namespace harrier {
namespace {

using TimeTable = std::vector<std::vector<double>>;

void check_times(const TimeTable& microseconds, double most_slowdown) {
  if (microseconds.empty()) throw InvalidInput("there are 0 candidates to export, needed is 1: add the default plan");
  if (!(most_slowdown >= 1)) {
    throw InvalidInput(fmt::format("a slowdown of at most {} is wanted, the least is 1: raise it", most_slowdown));
  }
  for (const std::vector<double>& row : microseconds) {
    if (row.size() != microseconds.front().size()) {
      throw InvalidInput(fmt::format("a candidate has {} times, the first has {}: one is needed for each bucket",
                                     row.size(), microseconds.front().size()));
    }
    for (const double time : row) {
      if (!(time > 0)) throw InvalidInput(fmt::format("a candidate took {} us, expected more than 0", time));
    }
  }
}

/// How many times as long as the best of its bucket each takes.
TimeTable slowdowns_of(const TimeTable& microseconds) {
  TimeTable slowdowns = microseconds;
  for (size_t bucket = 0; bucket < microseconds.front().size(); ++bucket) {
    double best = std::numeric_limits<double>::infinity();
    for (const std::vector<double>& row : microseconds) best = std::min(best, row[bucket]);
    if (std::isinf(best)) {
      throw InvalidInput(fmt::format("no candidate runs in bucket {}: add one that does, or leave it out", bucket));
    }
    for (std::vector<double>& row : slowdowns) row[bucket] /= best;
  }
  return slowdowns;
}

class Cover {
 public:
  Cover(const TimeTable& slowdowns, double most_slowdown) : slowdowns_(slowdowns), most_(most_slowdown) {}

  std::vector<size_t> find() const {
    std::vector<size_t> kept;
    while (!covers(kept)) kept.push_back(most_useful_beside(kept));
    // Later choices may do what an earlier one was taken for.
    for (size_t i = 0; i < kept.size() && kept.size() > 1;) {
      std::vector<size_t> fewer = kept;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      if (covers(fewer)) {
        kept = fewer;
      } else {
        ++i;
      }
    }
    std::ranges::sort(kept);
    return kept;
  }

 private:
  size_t buckets() const { return slowdowns_.front().size(); }

  bool is_good(size_t candidate, size_t bucket) const { return slowdowns_[candidate][bucket] <= most_; }

  bool is_covered(const std::vector<size_t>& kept, size_t bucket) const {
    return std::ranges::any_of(kept, [&](size_t candidate) { return is_good(candidate, bucket); });
  }

  bool covers(const std::vector<size_t>& kept) const {
    for (size_t bucket = 0; bucket < buckets(); ++bucket) {
      if (!is_covered(kept, bucket)) return false;
    }
    return !kept.empty();
  }

  size_t most_useful_beside(const std::vector<size_t>& kept) const {
    size_t best = 0;
    int64_t best_gain = -1;
    double best_sum = 0;
    for (size_t candidate = 0; candidate < slowdowns_.size(); ++candidate) {
      int64_t gain = 0;
      double sum = 0;
      for (size_t bucket = 0; bucket < buckets(); ++bucket) {
        sum += slowdowns_[candidate][bucket];
        if (!is_covered(kept, bucket) && is_good(candidate, bucket)) ++gain;
      }
      if (gain < best_gain || (gain == best_gain && !(sum < best_sum))) continue;
      best = candidate;
      best_gain = gain;
      best_sum = sum;
    }
    return best;
  }

  const TimeTable& slowdowns_;
  double most_;
};

}  // namespace

KernelChoice choose_kernels(const TimeTable& microseconds, double most_slowdown) {
  check_times(microseconds, most_slowdown);
  const TimeTable slowdowns = slowdowns_of(microseconds);
  KernelChoice choice{.kept = Cover(slowdowns, most_slowdown).find(), .of_bucket = {}};
  for (size_t bucket = 0; bucket < microseconds.front().size(); ++bucket) {
    const auto fastest =
        std::ranges::min_element(choice.kept, {}, [&](size_t candidate) { return microseconds[candidate][bucket]; });
    choice.of_bucket.push_back(static_cast<size_t>(fastest - choice.kept.begin()));
  }
  return choice;
}

}  // namespace harrier
