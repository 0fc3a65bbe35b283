// Bounds on the multiplicity of keys, piecewise constant over key intervals: what tiles are classified by.
//
// One set holds what two would say: keys with low == high > 0 have that multiplicity for certain ("must"), keys with
// high > 0 may be visible, keys in no interval are hidden. Bounds make the operators of masks exact where they can be:
// ~ of a key that is listed two to four times is hidden for certain, though its count is not known.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace harrier {

/// Counts at or past this are this: as many as a kernel cannot count.
inline constexpr int32_t kCountOverflow = std::numeric_limits<int32_t>::max();

/// Keys [begin, end): each query in question sees each of them at least `low` and at most `high` times.
struct CountedInterval {
  int64_t begin;
  int64_t end;
  int32_t low;
  int32_t high;
  bool operator==(const CountedInterval&) const = default;
};

/// Ascending, disjoint, none empty, none with high == 0; touching intervals differ in their bounds.
using IntervalSet = std::vector<CountedInterval>;

/// Adds an interval that starts at or after the end of the last one; an empty or hidden one is dropped, one like its
/// neighbour joins it.
inline void append(IntervalSet& set, const CountedInterval& interval) {
  if (interval.begin >= interval.end || interval.high == 0) return;
  if (!set.empty()) {
    CountedInterval& last = set.back();
    if (last.end == interval.begin && last.low == interval.low && last.high == interval.high) {
      last.end = interval.end;
      return;
    }
  }
  set.emplace_back(interval.begin, interval.end, interval.low, interval.high);
}

/// The operators of masks. `out` is overwritten and is neither operand; its memory is reused.
void intersect(const IntervalSet& left, const IntervalSet& right, IntervalSet& out);  // counts multiply
void unite(const IntervalSet& left, const IntervalSet& right, IntervalSet& out);      // the larger count
void complement(const IntervalSet& set, int64_t length, IntervalSet& out);            // 1 where 0, over [0, length)

/// Bounds over the queries of both sets.
void join_queries(const IntervalSet& left, const IntervalSet& right, IntervalSet& out);

/// True when every count is known.
bool is_exact(const IntervalSet& set);

/// Sum of the counts of the keys in [0, length) of an exact set.
int64_t count_keys(const IntervalSet& set, int64_t length);

}  // namespace harrier
