// Which measured kernels an export keeps, and which lengths take which.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "compiler/export/choose_kernels.h"
#include "compiler/export/decision_tree.h"
#include "ir/error.h"

namespace harrier {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Times = std::vector<std::vector<double>>;

constexpr double kNever = std::numeric_limits<double>::infinity();

std::string refusal(const auto& action) {
  try {
    action();
  } catch (const InvalidInput& error) {
    return error.what();
  }
  return "no error";
}

TEST(ChooseKernels, OneThatIsNearlyBestEverywhereIsEnough) {
  const KernelChoice choice = choose_kernels({{10, 90}, {10.4, 60}, {12, 59}}, 1.05);
  EXPECT_THAT(choice.kept, ElementsAre(1));
  EXPECT_THAT(choice.of_bucket, ElementsAre(0, 0));
}

TEST(ChooseKernels, EveryBucketGetsTheFastestOfThoseThatAreKept) {
  const KernelChoice choice = choose_kernels({{10, 90, 50}, {20, 60, 49}, {kNever, 61, 80}}, 1.05);
  EXPECT_THAT(choice.kept, ElementsAre(0, 1));
  EXPECT_THAT(choice.of_bucket, ElementsAre(0, 1, 1));
}

TEST(ChooseKernels, WhatALaterChoiceMakesNeedlessIsDropped) {
  // Greedy takes the first for buckets 0 to 3, then needs both others, which together do all that it does.
  const KernelChoice choice = choose_kernels({{1, 1, 1, 1, 9, 9}, {1, 1, 9, 9, 1, 9}, {9, 9, 1, 1, 9, 1}}, 1.05);
  EXPECT_THAT(choice.kept, ElementsAre(1, 2));
}

TEST(ChooseKernels, RefusesTimesThatAreNone) {
  EXPECT_THAT(refusal([] { choose_kernels({}, 1.05); }), HasSubstr("0 candidates"));
  EXPECT_THAT(refusal([] { choose_kernels({{1, 2}, {1}}, 1.05); }), HasSubstr("has 1 times, the first has 2"));
  EXPECT_THAT(refusal([] { choose_kernels({{0}}, 1.05); }), HasSubstr("took 0 us"));
  EXPECT_THAT(refusal([] { choose_kernels({{std::nan("")}}, 1.05); }), HasSubstr("took nan us"));
  EXPECT_THAT(refusal([] { choose_kernels({{1, kNever}}, 1.05); }), HasSubstr("no candidate runs in bucket 1"));
  EXPECT_THAT(refusal([] { choose_kernels({{1}}, 0.9); }), HasSubstr("the least is 1"));
}

/// Times of a few candidates, some of which do not run everywhere; the first runs everywhere.
Times random_times() {
  const int candidates = *rc::gen::inRange(1, 8);
  const int buckets = *rc::gen::inRange(0, 12);
  Times times;
  for (int i = 0; i < candidates; ++i) {
    times.emplace_back();
    for (int j = 0; j < buckets; ++j) {
      const int time = *rc::gen::inRange(95, 130);
      times.back().push_back(time > 125 && i > 0 ? kNever : time);
    }
  }
  return times;
}

double slowdown(const Times& times, const KernelChoice& choice, size_t bucket) {
  double best = kNever;
  for (const std::vector<double>& row : times) best = std::min(best, row[bucket]);
  return times[choice.kept[choice.of_bucket[bucket]]][bucket] / best;
}

TEST(ChooseKernels, KeepsToTheSlowdownInEveryBucketWithNoKernelTooMany) {
  rc::check([] {
    const Times times = random_times();
    constexpr double kMost = 1.05;
    const KernelChoice choice = choose_kernels(times, kMost);
    const size_t buckets = times.front().size();
    RC_ASSERT(!choice.kept.empty());
    RC_ASSERT(std::ranges::is_sorted(choice.kept));
    RC_ASSERT(choice.of_bucket.size() == buckets);
    for (size_t bucket = 0; bucket < buckets; ++bucket) RC_ASSERT(slowdown(times, choice, bucket) <= kMost);
    // Without any one of those kept, some bucket is too slow.
    for (size_t dropped = 0; dropped < choice.kept.size() && choice.kept.size() > 1; ++dropped) {
      bool is_needed = false;
      for (size_t bucket = 0; bucket < buckets; ++bucket) {
        KernelChoice without = choice;
        without.kept.erase(without.kept.begin() + static_cast<std::ptrdiff_t>(dropped));
        double least = kNever;
        for (size_t k = 0; k < without.kept.size(); ++k) {
          without.of_bucket[bucket] = k;
          least = std::min(least, slowdown(times, without, bucket));
        }
        is_needed = is_needed || !(least <= kMost);
      }
      RC_ASSERT(is_needed);
    }
  });
}

TEST(LengthTree, GivesEveryBucketItsKernel) {
  rc::check([] {
    std::set<std::array<int64_t, 3>> places;
    for (int i = *rc::gen::inRange(0, 20); i > 0; --i) {
      const auto size = [] { return int64_t{1} << *rc::gen::inRange(0, 8); };
      places.insert({size(), size(), size()});
    }
    std::vector<LengthBucket> buckets;
    std::vector<size_t> kernels;
    for (const auto& place : places) {
      buckets.push_back({.query_length = place[0], .key_length = place[1], .batch_heads = place[2]});
      kernels.push_back(static_cast<size_t>(*rc::gen::inRange(0, 4)));
    }
    const std::vector<LengthTreeNode> tree = length_tree(buckets, kernels);
    for (size_t i = 0; i < buckets.size(); ++i) RC_ASSERT(kernel_for(tree, buckets[i]) == kernels[i]);
    // No larger than what tells the buckets apart.
    RC_ASSERT(tree.size() <= std::max<size_t>(1, 2 * buckets.size()));
  });
}

TEST(LengthTree, BetweenAndBeyondBucketsANeighbourAnswers) {
  const std::vector<LengthBucket> buckets = {{.query_length = 100, .key_length = 100, .batch_heads = 8},
                                             {.query_length = 10000, .key_length = 10000, .batch_heads = 8}};
  const std::vector<LengthTreeNode> tree = length_tree(buckets, {0, 1});
  const auto at = [&](int64_t length) {
    return kernel_for(tree, {.query_length = length, .key_length = length, .batch_heads = 1});
  };
  EXPECT_EQ(at(0), 0U);
  EXPECT_EQ(at(999), 0U);
  EXPECT_EQ(at(1000), 1U);  // the geometric mean
  EXPECT_EQ(at(1 << 26), 1U);
}

TEST(LengthTree, EqualBucketsWithDifferentKernelsAreRefused) {
  const LengthBucket bucket{.query_length = 1, .key_length = 2, .batch_heads = 3};
  EXPECT_THAT(refusal([&] { length_tree({bucket, bucket}, {0, 1}); }),
              HasSubstr("the bucket of 1 queries, 2 keys and 3 heads is there twice"));
  EXPECT_EQ(length_tree({bucket, bucket}, {1, 1}).size(), 1U);
  EXPECT_EQ(kernel_for(length_tree({}, {}), bucket), 0U);
}

}  // namespace
}  // namespace harrier
