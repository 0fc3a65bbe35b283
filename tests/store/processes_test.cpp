// Many processes, starting cold, killed at any moment.
#include "processes.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <numeric>
#include <random>
#include <thread>

#include "fake_artifacts.h"
#include "store/maintenance.h"
#include "store/make_once.h"
#include "store/tuning_rows.h"
#include "watched_store.h"

namespace harrier {
namespace {

using test::fake_artifact;
using test::key_of;

/// Counts over processes: a file that grows by a byte.
void count(const std::string& file) {
  const int descriptor = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (descriptor < 0 || write(descriptor, "x", 1) != 1) _exit(96);
  close(descriptor);
}

int64_t counted(const std::string& file) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  return error ? 0 : static_cast<int64_t>(size);
}

TuningContext context_of(int64_t workload) {
  return {.device = {.silicon_key = "silicon", .name = "GPU"},
          .environment = {.key = "environment"},
          .workload = {.pattern_key = fmt::format("pattern {}", workload), .bucket_key = "1k"}};
}

TEST(Processes, StartingColdTheyCompileEachWorkloadOnce) {
  constexpr int kProcesses = 16;
  constexpr int64_t kWorkloads = 8;
  const test::TemporaryFolder folder;
  const std::string cache = folder / "cache";
  const std::string compiles = folder / "compiles";
  std::vector<pid_t> children;
  for (int child = 0; child < kProcesses; ++child) {
    children.push_back(test::start_process([&, child] {
      const test::WatchedStore watched(cache);
      std::vector<int64_t> order(kWorkloads);
      std::iota(order.begin(), order.end(), 0);
      std::shuffle(order.begin(), order.end(), std::mt19937_64(static_cast<uint64_t>(child)));
      for (const int64_t workload : order) {
        const MadeArtifact made = make_once(*watched.store, key_of(fake_artifact(workload)), [&] {
          count(compiles);
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
          return fake_artifact(workload);
        });
        if (made.artifact != fake_artifact(workload)) return 1;
        const MeasurementRow row{.config = "c", .session = fmt::format("process {}", child), .p50_us = 1};
        if (!put_measurements(*watched.store, context_of(workload), std::vector{row})) return 2;
      }
      return watched.warnings.empty() ? 0 : 3;
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(test::wait_for(child), 0);
  EXPECT_EQ(counted(compiles), kWorkloads);
  const test::WatchedStore watched(cache);
  EXPECT_EQ(summarize(*watched.store).artifacts, kWorkloads);
  EXPECT_EQ(find_measurements(*watched.store, {}).size(), kProcesses * kWorkloads) << "a row was lost";
  EXPECT_THAT(verify_store(*watched.store).problems, testing::IsEmpty());
  EXPECT_THAT(watched.warnings, testing::IsEmpty());
}

/// What a process does until it is killed.
int work_for_ever(const std::string& cache, uint64_t seed) {
  std::mt19937_64 random(seed);
  const test::WatchedStore watched(cache, {.size_limit_bytes = 400'000});
  while (true) {
    const auto workload = static_cast<int64_t>(random() % 32);
    const MadeArtifact made = make_once(*watched.store, key_of(fake_artifact(workload)), [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 3));
      return fake_artifact(workload);
    });
    if (made.artifact.parts != fake_artifact(workload).parts) return 1;
    put_measurements(*watched.store, context_of(workload), std::vector{MeasurementRow{.config = "c", .session = "s"}});
    put_decision(*watched.store, context_of(workload),
                 {.config = "c", .artifact = random() % 8 == 0 ? key_of(made.artifact) : std::string()});
    if (random() % 16 == 0) collect_garbage(*watched.store, 200'000);
    if (!watched.warnings.empty()) {
      const std::string text = watched.warnings.front() + "\n";
      return write(STDERR_FILENO, text.data(), text.size()) > 0 ? 2 : 3;
    }
  }
}

TEST(Processes, KilledAtAnyMomentTheyLeaveARightStore) {
  constexpr int kRounds = 200;
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  const test::TemporaryFolder folder;
  const std::string cache = folder / "cache";
  for (int round = 0; round < kRounds; ++round) {
    std::vector<pid_t> children;
    for (int child = 0; child < 3; ++child) {
      children.push_back(test::start_process([&, child_seed = random()] { return work_for_ever(cache, child_seed); }));
    }
    for (const pid_t child : children) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 12'000));
      kill(child, SIGKILL);
    }
    for (const pid_t child : children) ASSERT_EQ(test::wait_for(child), -SIGKILL) << "round " << round;
    if (round % 10 != 9) continue;
    const test::WatchedStore watched(cache);
    for (int64_t workload = 0; workload < 32; ++workload) {
      // A maker that was killed is not waited for.
      const auto start = std::chrono::steady_clock::now();
      const MadeArtifact made =
          make_once(*watched.store, key_of(fake_artifact(workload)), [&] { return fake_artifact(workload); });
      ASSERT_EQ(made.artifact.parts, fake_artifact(workload).parts);
      ASSERT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
    }
    ASSERT_THAT(verify_store(*watched.store).problems, testing::IsEmpty());
    ASSERT_THAT(watched.warnings, testing::IsEmpty());
  }
  EXPECT_FALSE(std::filesystem::exists(cache + "/harrier.db.damaged"));
}

#ifdef __SANITIZE_ADDRESS__
// Its allocator takes no steps around a fork: a child may wait for ever for a lock that another thread held.
constexpr bool kForksBesideThreads = false;
#else
constexpr bool kForksBesideThreads = true;
#endif

TEST(Processes, AForkMayUseTheStoreOfItsParentAtTheSameTime) {
  const test::TemporaryFolder folder;
  const std::string cache = folder / "cache";
  const test::WatchedStore watched(cache);
  put_artifact(*watched.store, fake_artifact(0));
  // Another thread is busy with the store while it forks.
  std::jthread busy([&](const std::stop_token& stop) {
    for (int64_t i = 100; kForksBesideThreads && !stop.stop_requested(); ++i)
      put_artifact(*watched.store, fake_artifact(i, 100));
  });
  std::vector<pid_t> children;
  for (int64_t child = 1; child <= 8; ++child) {
    children.push_back(test::start_process([&, child] {
      if (find_artifact(*watched.store, key_of(fake_artifact(0))) != fake_artifact(0)) return 1;
      return put_artifact(*watched.store, fake_artifact(child)) && watched.warnings.empty() ? 0 : 2;
    }));
    put_artifact(*watched.store, fake_artifact(10 + child));
  }
  for (const pid_t child : children) EXPECT_EQ(test::wait_for(child), 0);
  busy.request_stop();
  busy.join();
  for (int64_t i = 1; i <= 8; ++i) {
    EXPECT_EQ(find_artifact(*watched.store, key_of(fake_artifact(i))), fake_artifact(i));
    EXPECT_EQ(find_artifact(*watched.store, key_of(fake_artifact(10 + i))), fake_artifact(10 + i));
  }
  EXPECT_THAT(verify_store(*watched.store).problems, testing::IsEmpty());
  EXPECT_THAT(watched.warnings, testing::IsEmpty());
}

}  // namespace
}  // namespace harrier
