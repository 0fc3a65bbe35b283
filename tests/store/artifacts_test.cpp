// Machine code comes back byte for byte or not at all, and what is used stays within the limit.
#include "store/artifacts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "fake_artifacts.h"
#include "store/maintenance.h"
#include "store/make_once.h"
#include "store/sqlite.h"
#include "store/tuning_rows.h"
#include "watched_store.h"

namespace harrier {
namespace {

using test::fake_artifact;
using test::key_of;

TEST(Artifacts, ComeBackInAnotherProcessAsTheyWerePut) {
  const test::TemporaryFolder folder;
  {
    const test::WatchedStore watched(folder.path());
    EXPECT_FALSE(find_artifact(*watched.store, key_of(fake_artifact(1))));
    EXPECT_TRUE(put_artifact(*watched.store, fake_artifact(1)));
    EXPECT_TRUE(put_artifact(*watched.store, fake_artifact(2)));
  }
  const test::WatchedStore watched(folder.path());
  EXPECT_EQ(find_artifact(*watched.store, key_of(fake_artifact(1))), fake_artifact(1));
  EXPECT_EQ(find_artifact(*watched.store, key_of(fake_artifact(2))), fake_artifact(2));
  EXPECT_THAT(watched.warnings, testing::IsEmpty());
  EXPECT_THAT(verify_store(*watched.store).problems, testing::IsEmpty());
}

TEST(Artifacts, TheFirstOfAKeyStaysUnlessItIsReplaced) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  Artifact other = fake_artifact(1);
  other.parts[0].bytes = {'x'};
  put_artifact(*watched.store, fake_artifact(1));
  put_artifact(*watched.store, other);
  EXPECT_EQ(find_artifact(*watched.store, key_of(other)), fake_artifact(1));
  EXPECT_TRUE(replace_artifact(*watched.store, other));
  EXPECT_EQ(find_artifact(*watched.store, key_of(other)), other);
}

TEST(Artifacts, AreFoundByTheirSourceWhereTheToolchainIsUnknown) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  Artifact newer = fake_artifact(1);
  newer.toolchain = "fake 2";
  newer.created_at += 1;
  put_artifact(*watched.store, newer);
  put_artifact(*watched.store, fake_artifact(1));
  EXPECT_EQ(find_artifact_of_source(*watched.store, newer.source_key), newer);
  EXPECT_FALSE(find_artifact_of_source(*watched.store, fake_artifact(2).source_key));
}

TEST(Artifacts, WhatWasUsedLongestAgoGoesFirstAndDecisionsKeepTheirs) {
  const test::TemporaryFolder folder;
  int64_t now_ms = 0;
  constexpr int64_t kDayMs = 86'400'000;
  const test::WatchedStore watched(folder.path(),
                                   {.size_limit_bytes = 100'000, .now_ms = [&now_ms] { return now_ms; }});
  Store& store = *watched.store;
  const TuningContext context{
      .device = {.silicon_key = "a"}, .environment = {.key = "e"}, .workload = {.pattern_key = "p", .bucket_key = "b"}};
  put_decision(store, context, {.config = "c", .artifact = key_of(fake_artifact(0))});
  for (int64_t i = 0; i < 4; ++i) {
    now_ms += 2 * kDayMs;
    put_artifact(store, fake_artifact(i));
  }
  now_ms += 2 * kDayMs;
  EXPECT_TRUE(find_artifact(store, key_of(fake_artifact(1)))) << "which marks it used";
  for (int64_t i = 4; i < 6; ++i) put_artifact(store, fake_artifact(i));
  EXPECT_TRUE(find_artifact(store, key_of(fake_artifact(0)))) << "a decision names it";
  EXPECT_TRUE(find_artifact(store, key_of(fake_artifact(1)))) << "it was used";
  EXPECT_FALSE(find_artifact(store, key_of(fake_artifact(2))));
  EXPECT_TRUE(find_artifact(store, key_of(fake_artifact(5)))) << "it was just put";
  EXPECT_LE(summarize(store).artifact_bytes, 100'000);

  const GarbageReport report = collect_garbage(store, 0);
  EXPECT_GT(report.artifacts, 0);
  EXPECT_LT(report.bytes_after, report.bytes_before);
  EXPECT_EQ(summarize(store).artifacts, 1);
  EXPECT_TRUE(find_artifact(store, key_of(fake_artifact(0))));
  EXPECT_THAT(verify_store(store).problems, testing::IsEmpty());
}

TEST(Artifacts, AChangedRowIsDeletedAndTold) {
  for (const char* change :
       {"UPDATE blob SET bytes = x'00' WHERE length(bytes) > 100", "DELETE FROM part WHERE name = 'builder'",
        "UPDATE part SET details = '{\"registers\":1}' WHERE name = 'kernel'",
        "UPDATE artifact SET architecture = 'sm_80'",
        "UPDATE part SET blob_sha = (SELECT sha FROM blob WHERE length(bytes) > 100)"}) {
    SCOPED_TRACE(change);
    const test::TemporaryFolder folder;
    const test::WatchedStore watched(folder.path());
    put_artifact(*watched.store, fake_artifact(1));
    watched.store->write([&](sqlite::Database& database) { database.run(change); });
    EXPECT_THAT(verify_store(*watched.store).problems, testing::Not(testing::IsEmpty()));
    EXPECT_FALSE(find_artifact(*watched.store, key_of(fake_artifact(1))));
    EXPECT_THAT(watched.warnings, testing::ElementsAre(testing::HasSubstr("damaged machine code")));
    EXPECT_THAT(verify_store(*watched.store).problems, testing::IsEmpty());
    EXPECT_TRUE(put_artifact(*watched.store, fake_artifact(1)));
    EXPECT_EQ(find_artifact(*watched.store, key_of(fake_artifact(1))), fake_artifact(1));
  }
}

TEST(Artifacts, ThreadsShareAStore) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  std::vector<std::jthread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = 0; i < 40; ++i) {
        const Artifact artifact = fake_artifact(t == 0 ? i : 39 - i, 2000);
        put_artifact(*watched.store, artifact);
        if (find_artifact(*watched.store, key_of(artifact)) != artifact) ++wrong;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(summarize(*watched.store).artifacts, 40);
  EXPECT_THAT(watched.warnings, testing::IsEmpty());
}

TEST(MakeOnce, ThreadsWaitForTheOneThatMakesIt) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  std::atomic<int> made{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      const MadeArtifact got = make_once(*watched.store, key_of(fake_artifact(1)), [&] {
        ++made;
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        return fake_artifact(1);
      });
      EXPECT_EQ(got.artifact.parts, fake_artifact(1).parts);
    });
  }
  threads.clear();
  EXPECT_EQ(made, 1);
}

TEST(MakeOnce, WhatFailsIsTriedAgainByTheNext) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  const std::string key = key_of(fake_artifact(1));
  EXPECT_THROW(make_once(*watched.store, key, []() -> Artifact { throw ToolchainError("no"); }), ToolchainError);
  EXPECT_FALSE(make_once(*watched.store, key, [] { return fake_artifact(1); }).was_found);
  EXPECT_TRUE(make_once(*watched.store, key, [] { return fake_artifact(1); }).was_found);
}

TEST(MakeOnce, WaitsNoLongerThanItsPatience) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  const std::string key = key_of(fake_artifact(1));
  watched.store->write([&](sqlite::Database& database) {
    database.run("INSERT INTO lease VALUES (?1, 'somebody else', ?2)", {key, watched.store->now_ms() + 60'000});
  });
  const MadeArtifact made =
      make_once(*watched.store, key, [] { return fake_artifact(1); }, {.lease_ms = 1000, .patience_ms = 30});
  EXPECT_FALSE(made.was_found);
}

TEST(Toolchains, AreRememberedByWhatWasSearchedFor) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  const ToolchainRow row{.wish = "any", .path = "/lib/libnvrtc.so", .stamp = "1 2", .identity = "13.0 ab"};
  EXPECT_FALSE(find_toolchain(*watched.store, "any"));
  EXPECT_TRUE(put_toolchain(*watched.store, row));
  EXPECT_EQ(find_toolchain(*watched.store, "any"), row);
}

}  // namespace
}  // namespace harrier
