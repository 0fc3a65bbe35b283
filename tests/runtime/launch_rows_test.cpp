#include "runtime/cpu/launch_rows.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <stdexcept>
#include <vector>

namespace harrier {
namespace {

TEST(LaunchRows, RunsEveryRowOnce) {
  for (const int threads : {0, 1, 2, 7}) {
    std::vector<std::atomic<int>> visits(1000);
    launch_rows(1000, threads, 16, [&](int64_t row, float*) { ++visits[static_cast<size_t>(row)]; });
    for (const std::atomic<int>& count : visits) EXPECT_EQ(count, 1);
  }
}

TEST(LaunchRows, TakesRowsInOrderOnOneThread) {
  std::vector<int64_t> order;
  launch_rows(5, 1, 16, [&](int64_t row, float*) { order.push_back(row); });
  EXPECT_EQ(order, (std::vector<int64_t>{0, 1, 2, 3, 4}));
}

TEST(LaunchRows, GivesEachThreadAlignedScratchOfItsOwn) {
  std::mutex mutex;
  std::set<float*> seen;
  launch_rows(200, 2, 100, [&](int64_t, float* scratch) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch) % 64, 0U);
    scratch[0] = scratch[99] = 1.0F;
    const std::lock_guard lock(mutex);
    seen.insert(scratch);
  });
  EXPECT_GE(seen.size(), 1U);
  EXPECT_LE(seen.size(), 2U);
}

TEST(LaunchRows, DoesNothingForNoRows) {
  launch_rows(0, 0, 16, [](int64_t, float*) { FAIL() << "there is no row to run"; });
}

TEST(LaunchRows, PassesTheFirstExceptionOnAndStops) {
  std::atomic<int> visits{0};
  const auto run = [&] {
    launch_rows(1'000'000, 2, 16, [&](int64_t, float*) {
      ++visits;
      throw std::runtime_error("row failed");
    });
  };
  EXPECT_THROW(run(), std::runtime_error);
  EXPECT_LE(visits, 2);
}

}  // namespace
}  // namespace harrier
