#include "runtime/cpu/ordered_rows.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

namespace harrier {
namespace {

SharedMemory all_by_key(int64_t /*earlier*/, int64_t /*later*/) { return SharedMemory::kByKey; }

/// Rows that visit rising keys, some of them, and write down their visits: as racy as a kernel's sums.
std::vector<std::vector<int64_t>> visits_of(int threads, uint64_t seed) {
  constexpr int64_t kRows = 60;
  constexpr int64_t kKeys = 24;
  std::vector<std::vector<int64_t>> visits(kKeys);
  launch_ordered_rows(kRows, threads, 16, all_by_key, [&](int64_t row, float*, RowTurn& turn) {
    std::mt19937_64 random(seed + static_cast<uint64_t>(row));
    turn.await_row();
    for (int64_t key = 0; key < kKeys; ++key) {
      if (random() % 3 == 0) continue;
      turn.await_keys(key, key + 1);
      visits[static_cast<size_t>(key)].push_back(row);
    }
  });
  return visits;
}

TEST(OrderedRows, EveryKeyIsVisitedInTheOrderOfTheRows) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const std::vector<std::vector<int64_t>> alone = visits_of(1, seed);
    EXPECT_EQ(visits_of(0, seed), alone);
    for (const std::vector<int64_t>& rows : alone) EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  }
}

TEST(OrderedRows, RowsThatShareAnyMemoryRunOneAfterTheOther) {
  constexpr int64_t kParts = 3;
  std::vector<std::vector<int64_t>> visits(kParts);
  const auto shares = [](int64_t earlier, int64_t later) {
    return earlier % kParts == later % kParts ? SharedMemory::kAny : SharedMemory::kNone;
  };
  launch_ordered_rows(300, 0, 16, shares, [&](int64_t row, float*, RowTurn& turn) {
    turn.await_row();
    visits[static_cast<size_t>(row % kParts)].push_back(row);
    turn.await_keys(0, 10);
  });
  for (const std::vector<int64_t>& rows : visits) {
    EXPECT_EQ(rows.size(), 100U);
    EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  }
}

TEST(OrderedRows, RowsThatShareNothingWaitForNobody) {
  std::atomic<int> done{0};
  launch_ordered_rows(
      500, 0, 16, [](int64_t, int64_t) { return SharedMemory::kNone; },
      [&](int64_t, float* scratch, RowTurn& turn) {
        scratch[15] = 1;
        turn.await_row();
        turn.await_keys(0, 1);
        ++done;
      });
  EXPECT_EQ(done, 500);
}

TEST(OrderedRows, DoesNothingForNoRows) {
  launch_ordered_rows(0, 0, 16, all_by_key, [](int64_t, float*, RowTurn&) { FAIL() << "there is no row to run"; });
}

TEST(OrderedRows, ARowThatFailsKeepsNobodyWaiting) {
  const auto run = [] {
    launch_ordered_rows(100, 0, 16, all_by_key, [](int64_t row, float*, RowTurn& turn) {
      if (row == 3) throw std::runtime_error("row failed");
      turn.await_keys(0, 10);
    });
  };
  EXPECT_THROW(run(), std::runtime_error);
}

}  // namespace
}  // namespace harrier
