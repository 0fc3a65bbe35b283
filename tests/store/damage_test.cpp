// Whatever is wrong with file, folder or disk, callers get right answers or none, and one warning.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "fake_artifacts.h"
#include "processes.h"
#include "store/maintenance.h"
#include "store/make_once.h"
#include "store/sqlite.h"
#include "store/tuning_rows.h"
#include "watched_store.h"

namespace harrier {
namespace {

using test::fake_artifact;
using test::key_of;
using testing::ElementsAre;
using testing::HasSubstr;

/// A cache of a few artifacts and decisions, closed.
void fill(const std::string& cache) {
  const test::WatchedStore watched(cache);
  for (int64_t i = 0; i < 4; ++i) {
    put_artifact(*watched.store, fake_artifact(i));
    put_decision(*watched.store,
                 {.device = {.silicon_key = "a"},
                  .environment = {.key = "e"},
                  .workload = {.pattern_key = fmt::format("{}", i), .bucket_key = "b"}},
                 {.config = "c"});
  }
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// Every lookup is right or a miss, and afterwards the store works as if new.
void expect_usable(const std::string& cache) {
  const test::WatchedStore watched(cache);
  Store& store = *watched.store;
  for (int64_t i = 0; i < 6; ++i) {
    if (const auto found = find_artifact(store, key_of(fake_artifact(i)))) {
      EXPECT_EQ(found->parts, fake_artifact(i).parts);
    }
    find_decisions(store, {.pattern_key = fmt::format("{}", i)});
    const MadeArtifact made = make_once(store, key_of(fake_artifact(i)), [i] { return fake_artifact(i); });
    EXPECT_EQ(made.artifact.parts, fake_artifact(i).parts);
  }
  EXPECT_LE(watched.warnings.size(), 3) << "warnings must not repeat";
}

TEST(Damage, AFileThatIsNoDatabaseIsSetAside) {
  const test::TemporaryFolder folder;
  const std::string cache = folder / "cache";
  fill(cache);
  write_bytes(cache + "/harrier.db", "this is no database, and long enough to be looked at" + std::string(4096, 'x'));
  const test::WatchedStore watched(cache);
  EXPECT_EQ(watched.store->state(), StoreState::kReadWrite);
  EXPECT_THAT(watched.warnings, ElementsAre(HasSubstr("was damaged")));
  EXPECT_TRUE(std::filesystem::exists(cache + "/harrier.db.damaged"));
  EXPECT_TRUE(put_artifact(*watched.store, fake_artifact(1)));
  EXPECT_EQ(find_artifact(*watched.store, key_of(fake_artifact(1))), fake_artifact(1));
}

TEST(Damage, AnotherProgramsDatabaseIsSetAsideToo) {
  const test::TemporaryFolder folder;
  sqlite::Database(folder / "harrier.db", sqlite::OpenMode::kReadWrite).execute("CREATE TABLE theirs(x)");
  const test::WatchedStore watched(folder.path());
  EXPECT_THAT(watched.warnings, ElementsAre(HasSubstr("no database of Harrier's")));
  EXPECT_TRUE(put_artifact(*watched.store, fake_artifact(1)));
}

TEST(Damage, ANewerVersionIsLeftAlone) {
  const test::TemporaryFolder folder;
  const std::string cache = folder / "cache";
  fill(cache);
  sqlite::Database(cache + "/harrier.db", sqlite::OpenMode::kReadWrite).execute("PRAGMA user_version = 2");
  const std::string before = bytes_of(cache + "/harrier.db");
  const test::WatchedStore watched(cache);
  EXPECT_EQ(watched.store->state(), StoreState::kAbsent);
  EXPECT_FALSE(put_artifact(*watched.store, fake_artifact(1)));
  EXPECT_FALSE(find_artifact(*watched.store, key_of(fake_artifact(1))));
  EXPECT_THAT(watched.warnings, ElementsAre(HasSubstr("of version 2, newer than this Harrier's 1")));
  EXPECT_EQ(bytes_of(cache + "/harrier.db"), before);
}

TEST(Damage, FlippedBytesGiveNoWrongAnswer) {
  const int rounds = std::getenv("HARRIER_TEST_THOROUGH") != nullptr ? 300 : 30;
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  const test::TemporaryFolder folder;
  fill(folder / "whole");
  const std::string whole = bytes_of(folder / "whole/harrier.db");
  for (int round = 0; round < rounds; ++round) {
    const std::string cache = folder / fmt::format("{}", round);
    ASSERT_EQ(mkdir(cache.c_str(), 0700), 0);
    std::string bytes = whole;
    // Schema, indexes and rows lie in the first pages; machine code fills the rest.
    const size_t within = round % 2 == 0 ? std::min<size_t>(bytes.size(), 40'000) : bytes.size();
    const size_t flips = 1 + random() % 64;
    for (size_t i = 0; i < flips; ++i) bytes[random() % within] = static_cast<char>(random());
    write_bytes(cache + "/harrier.db", bytes);
    SCOPED_TRACE(fmt::format("round {}", round));
    expect_usable(cache);
    std::filesystem::remove_all(cache);
  }
}

TEST(Damage, TruncatedFilesGiveNoWrongAnswer) {
  const test::TemporaryFolder folder;
  fill(folder / "whole");
  const std::string whole = bytes_of(folder / "whole/harrier.db");
  for (const size_t size : {size_t{0}, size_t{1}, size_t{50}, size_t{100}, size_t{4096}, size_t{5000}, whole.size() / 2,
                            whole.size() - 4096, whole.size() - 1}) {
    const std::string cache = folder / fmt::format("{}", size);
    ASSERT_EQ(mkdir(cache.c_str(), 0700), 0);
    write_bytes(cache + "/harrier.db", whole.substr(0, size));
    SCOPED_TRACE(fmt::format("{} of {} bytes", size, whole.size()));
    expect_usable(cache);
  }
}

TEST(Damage, ABrokenLogGivesNoWrongAnswer) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  const test::TemporaryFolder folder;
  // A process that is killed leaves its log behind.
  const std::string killed = folder / "killed";
  const pid_t child = test::start_process([&] {
    const test::WatchedStore watched(killed);
    for (int64_t i = 0; i < 4; ++i) put_artifact(*watched.store, fake_artifact(i));
    raise(SIGKILL);
    return 0;
  });
  ASSERT_EQ(test::wait_for(child), -SIGKILL);
  const std::string file = bytes_of(killed + "/harrier.db");
  const std::string log = bytes_of(killed + "/harrier.db-wal");
  ASSERT_GT(log.size(), 10'000);
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE(fmt::format("round {}", round));
    const std::string cache = folder / fmt::format("{}", round);
    ASSERT_EQ(mkdir(cache.c_str(), 0700), 0);
    write_bytes(cache + "/harrier.db", file);
    std::string bytes = log;
    if (round % 2 == 0) bytes.resize(random() % bytes.size());
    for (int i = 0; i < 4 && !bytes.empty(); ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    write_bytes(cache + "/harrier.db-wal", bytes);
    expect_usable(cache);
  }
}

TEST(Damage, FoundWhileTheStoreIsOpenIsHealed) {
  const test::TemporaryFolder folder;
  const std::string cache = folder / "cache";
  fill(cache);
  const test::WatchedStore watched(cache);
  // The header stays, so that nothing is noticed before a table is read.
  const std::string path = cache + "/harrier.db";
  const int descriptor = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const std::string noise(40'000, '\x55');
  ASSERT_EQ(pwrite(descriptor, noise.data(), noise.size(), 4096), std::ssize(noise));
  close(descriptor);
  EXPECT_FALSE(find_artifact(*watched.store, key_of(fake_artifact(1))));
  EXPECT_EQ(watched.store->state(), StoreState::kReadWrite);
  EXPECT_TRUE(put_artifact(*watched.store, fake_artifact(1)));
  EXPECT_EQ(find_artifact(*watched.store, key_of(fake_artifact(1))), fake_artifact(1));
  EXPECT_THAT(watched.warnings, ElementsAre(HasSubstr("was damaged")));
}

TEST(Disk, WhenItIsFullWhatIsThereIsStillFound) {
  const test::TemporaryFolder folder;
  const std::string cache = folder / "cache";
  fill(cache);
  const pid_t child = test::start_process([&] {
    // Files of this process cannot grow past 200 kB.
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 200'000, .rlim_max = RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    const test::WatchedStore watched(cache);
    bool is_full = false;
    for (int64_t i = 100; i < 140; ++i) is_full = !put_artifact(*watched.store, fake_artifact(i)) || is_full;
    if (!is_full) return 2;
    if (watched.warnings.empty() || watched.warnings.size() > 2) return 3;
    if (find_artifact(*watched.store, key_of(fake_artifact(1))) != fake_artifact(1)) return 4;
    const MadeArtifact made = make_once(*watched.store, key_of(fake_artifact(200)), [] { return fake_artifact(200); });
    return made.artifact.parts == fake_artifact(200).parts ? 0 : 5;
  });
  EXPECT_EQ(test::wait_for(child), 0);
  const test::WatchedStore watched(cache);
  EXPECT_THAT(verify_store(*watched.store).problems, testing::IsEmpty());
  EXPECT_EQ(find_artifact(*watched.store, key_of(fake_artifact(1))), fake_artifact(1));
}

TEST(Disk, WithoutRoomForAFileThereIsNoCache) {
  const test::TemporaryFolder folder;
  const pid_t child = test::start_process([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    const test::WatchedStore watched(folder / "cache");
    const MadeArtifact made = make_once(*watched.store, key_of(fake_artifact(1)), [] { return fake_artifact(1); });
    if (made.artifact.parts != fake_artifact(1).parts) return 2;
    return watched.warnings.size() == 1 ? 0 : 3;
  });
  EXPECT_EQ(test::wait_for(child), 0);
}

}  // namespace
}  // namespace harrier
