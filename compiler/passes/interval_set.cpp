#include "compiler/passes/interval_set.h"

#include <algorithm>

namespace harrier {
namespace {

struct Bounds {
  int32_t low = 0;
  int32_t high = 0;
};

/// Calls combine(left, right) on each stretch of keys over which both are constant.
template <typename Combine>
void sweep(const IntervalSet& left, const IntervalSet& right, IntervalSet& out, Combine combine) {
  constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();
  out.clear();
  auto l = left.begin();
  auto r = right.begin();
  int64_t at = std::numeric_limits<int64_t>::min();
  while (l != left.end() || r != right.end()) {
    Bounds in_left;
    Bounds in_right;
    int64_t next = kNowhere;
    if (l != left.end()) {
      const bool inside = l->begin <= at;
      if (inside) in_left = {l->low, l->high};
      next = inside ? l->end : l->begin;
    }
    if (r != right.end()) {
      const bool inside = r->begin <= at;
      if (inside) in_right = {r->low, r->high};
      next = std::min(next, inside ? r->end : r->begin);
    }
    const Bounds bounds = combine(in_left, in_right);
    append(out, {at, next, bounds.low, bounds.high});
    if (l != left.end() && l->end == next) ++l;
    if (r != right.end() && r->end == next) ++r;
    at = next;
  }
}

int32_t product(int32_t left, int32_t right) {
  return static_cast<int32_t>(std::min<int64_t>(int64_t{left} * right, kCountOverflow));
}

}  // namespace

void intersect(const IntervalSet& left, const IntervalSet& right, IntervalSet& out) {
  out.clear();
  auto l = left.begin();
  auto r = right.begin();
  while (l != left.end() && r != right.end()) {
    append(out, {std::max(l->begin, r->begin), std::min(l->end, r->end), product(l->low, r->low),
                 product(l->high, r->high)});
    const int64_t left_end = l->end;
    if (left_end <= r->end) ++l;
    if (r->end <= left_end) ++r;
  }
}

void unite(const IntervalSet& left, const IntervalSet& right, IntervalSet& out) {
  sweep(left, right, out,
        [](Bounds l, Bounds r) { return Bounds{.low = std::max(l.low, r.low), .high = std::max(l.high, r.high)}; });
}

void join_queries(const IntervalSet& left, const IntervalSet& right, IntervalSet& out) {
  sweep(left, right, out,
        [](Bounds l, Bounds r) { return Bounds{.low = std::min(l.low, r.low), .high = std::max(l.high, r.high)}; });
}

void complement(const IntervalSet& set, int64_t length, IntervalSet& out) {
  out.clear();
  int64_t at = 0;
  for (const CountedInterval& interval : set) {
    append(out, {at, std::min(interval.begin, length), 1, 1});
    if (interval.low == 0) append(out, {interval.begin, std::min(interval.end, length), 0, 1});
    at = interval.end;
  }
  append(out, {at, length, 1, 1});
}

bool is_exact(const IntervalSet& set) {
  return std::ranges::all_of(set, [](const CountedInterval& interval) { return interval.low == interval.high; });
}

int64_t count_keys(const IntervalSet& set, int64_t length) {
  int64_t count = 0;
  for (const CountedInterval& interval : set) {
    const int64_t end = std::min(interval.end, length);
    if (interval.begin < end) count += (end - interval.begin) * interval.low;
  }
  return count;
}

}  // namespace harrier
