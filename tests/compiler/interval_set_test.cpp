#include "compiler/passes/interval_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

namespace harrier {
namespace {

constexpr int64_t kLength = 24;

struct Bounds {
  int64_t low = 0;
  int64_t high = 0;
  bool operator==(const Bounds&) const = default;
};

/// The bounds of every key: what a set means.
using Keys = std::array<Bounds, kLength>;

Keys keys_of(const IntervalSet& set) {
  Keys keys;
  for (const CountedInterval& interval : set) {
    for (int64_t k = interval.begin; k < interval.end; ++k) keys[k] = {interval.low, interval.high};
  }
  return keys;
}

IntervalSet set_of(const Keys& keys) {
  IntervalSet set;
  for (int64_t k = 0; k < kLength; ++k) {
    append(set, {k, k + 1, static_cast<int32_t>(keys[k].low), static_cast<int32_t>(keys[k].high)});
  }
  return set;
}

Keys random_keys(std::mt19937_64& random) {
  Keys keys;
  Bounds current;
  for (Bounds& key : keys) {
    if (random() % 3 == 0) {
      current.high = static_cast<int64_t>(random() % 4);
      current.low = static_cast<int64_t>(random() % (current.high + 1));
    }
    key = current;
  }
  return keys;
}

template <typename Combine>
Keys combined(const Keys& left, const Keys& right, Combine combine) {
  Keys keys;
  for (int64_t k = 0; k < kLength; ++k) keys[k] = combine(left[k], right[k]);
  return keys;
}

void expect_well_formed(const IntervalSet& set) {
  for (size_t i = 0; i < set.size(); ++i) {
    EXPECT_LT(set[i].begin, set[i].end);
    EXPECT_GT(set[i].high, 0);
    EXPECT_LE(set[i].low, set[i].high);
    if (i == 0) continue;
    EXPECT_LE(set[i - 1].end, set[i].begin);
    const bool alike = set[i - 1].low == set[i].low && set[i - 1].high == set[i].high;
    EXPECT_FALSE(alike && set[i - 1].end == set[i].begin);
  }
}

TEST(IntervalSet, OperatorsAreThoseOfMasksKeyByKey) {
  std::mt19937_64 random(99);
  SCOPED_TRACE("seed 99");
  for (int i = 0; i < 2000; ++i) {
    const Keys left = random_keys(random);
    const Keys right = random_keys(random);
    const IntervalSet a = set_of(left);
    const IntervalSet b = set_of(right);
    IntervalSet out;
    intersect(a, b, out);
    expect_well_formed(out);
    EXPECT_EQ(keys_of(out),
              combined(left, right, [](Bounds l, Bounds r) { return Bounds{l.low * r.low, l.high * r.high}; }));
    unite(a, b, out);
    expect_well_formed(out);
    EXPECT_EQ(keys_of(out), combined(left, right, [](Bounds l, Bounds r) {
                return Bounds{std::max(l.low, r.low), std::max(l.high, r.high)};
              }));
    join_queries(a, b, out);
    expect_well_formed(out);
    EXPECT_EQ(keys_of(out), combined(left, right, [](Bounds l, Bounds r) {
                return Bounds{std::min(l.low, r.low), std::max(l.high, r.high)};
              }));
    complement(a, kLength, out);
    expect_well_formed(out);
    EXPECT_EQ(keys_of(out),
              combined(left, right, [](Bounds l, Bounds) { return Bounds{l.high == 0 ? 1 : 0, l.low == 0 ? 1 : 0}; }));
    if (HasFailure()) return;
  }
}

TEST(IntervalSet, AppendJoinsNeighboursAndDropsNothings) {
  IntervalSet set;
  append(set, {0, 4, 1, 1});
  append(set, {4, 4, 2, 2});
  append(set, {4, 6, 1, 1});
  append(set, {6, 7, 0, 0});
  append(set, {7, 9, 1, 1});
  append(set, {9, 10, 0, 1});
  EXPECT_EQ(set, (IntervalSet{{0, 6, 1, 1}, {7, 9, 1, 1}, {9, 10, 0, 1}}));
}

TEST(IntervalSet, CountsStopAtTheLargestInsteadOfWrapping) {
  const IntervalSet huge = {{0, 2, 1 << 30, 1 << 30}};
  IntervalSet out;
  intersect(huge, huge, out);
  EXPECT_EQ(out, (IntervalSet{{0, 2, kCountOverflow, kCountOverflow}}));
}

TEST(IntervalSet, SumsCountsOfKeysBelowALength) {
  const IntervalSet set = {{0, 2, 1, 1}, {5, 9, 3, 3}};
  EXPECT_TRUE(is_exact(set));
  EXPECT_EQ(count_keys(set, 100), 14);
  EXPECT_EQ(count_keys(set, 6), 5);
  EXPECT_EQ(count_keys(set, 0), 0);
  EXPECT_FALSE(is_exact({{0, 1, 0, 1}}));
}

}  // namespace
}  // namespace harrier
