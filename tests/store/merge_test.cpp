// What several machines know, brought together: in any order, as often as wanted.
#include "store/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "fake_artifacts.h"
#include "store/artifact_rows.h"
#include "store/maintenance.h"
#include "store/sqlite.h"
#include "store/tuning_rows.h"
#include "watched_store.h"

namespace harrier {
namespace {

using test::fake_artifact;
using test::key_of;
using testing::HasSubstr;

/// Everything that a store says, without ids and without what is of one machine.
std::vector<std::string> knowledge_of(Store& store) {
  constexpr std::array<const char*, 9> kQueries = {
      "SELECT 'blob', sha, quote(bytes) FROM blob WHERE EXISTS (SELECT 1 FROM part WHERE blob_sha = sha)",
      "SELECT 'artifact', key, source_key, toolchain, architecture, label, seal, bytes, compile_us, created_at, used_at"
      " FROM artifact",
      "SELECT 'part', key, name, blob_sha, details FROM part JOIN artifact ON artifact_id = id",
      "SELECT 'quarantine', * FROM quarantine",
      "SELECT 'device', silicon_key, name, capability, multiprocessors, l2_bytes, shared_bytes_per_block,"
      " memory_bus_bits, memory_clock_khz, calibration, calibrated_at FROM device",
      "SELECT 'environment', key, description FROM environment",
      "SELECT 'workload', pattern_key, bucket_key, pattern, features FROM workload",
      "SELECT 'measurement', pattern_key, bucket_key, silicon_key, key, text, session, artifact, status, note, rounds,"
      " p20_us, p50_us, p80_us, predicted_us, log_ratio, log_ratio_low, log_ratio_high, details, driver, measured_at"
      " FROM measurement JOIN workload w ON w.id = workload_id JOIN device d ON d.id = device_id"
      " JOIN environment e ON e.id = environment_id JOIN config c ON c.id = config_id",
      "SELECT 'decision', pattern_key, bucket_key, silicon_key, key, text, artifact, default_us, tuned_us, margin,"
      " space_hash, effort, details, driver, verified, pinned, generation, decided_at"
      " FROM decision JOIN workload w ON w.id = workload_id JOIN device d ON d.id = device_id"
      " JOIN environment e ON e.id = environment_id JOIN config c ON c.id = config_id"};
  constexpr std::array<int, 9> kColumns = {3, 11, 5, 6, 11, 3, 5, 21, 18};
  std::vector<std::string> lines;
  store.require_read([&](sqlite::Database& database) {
    lines.clear();
    for (size_t i = 0; i < kQueries.size(); ++i) {
      sqlite::Rows rows = database.query(kQueries[i]);
      while (rows.next()) {
        std::string line;
        for (int column = 0; column < kColumns[i]; ++column) line += rows.text(column) + "|";
        lines.push_back(line);
      }
    }
  });
  std::ranges::sort(lines);
  return lines;
}

/// Few keys and few values, so that machines disagree.
class RandomRows {
 public:
  explicit RandomRows(uint64_t seed) : random_(seed) {}

  int64_t below(int64_t limit) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit)); }

  void add_row(Store& store) {
    const TuningContext context{.device = {.silicon_key = one_of({"a", "b", "c"}),
                                           .name = one_of({"", "H100", "H200"}),
                                           .capability = below(3),
                                           .calibration = one_of({"", "{1}", "{2}"}),
                                           .calibrated_at = below(3)},
                                .environment = {.key = one_of({"e", "f"}), .description = one_of({"", "x", "y"})},
                                .workload = {.pattern_key = one_of({"p", "q"}),
                                             .bucket_key = one_of({"1k", "2k"}),
                                             .pattern = one_of({"", "causal", "window"}),
                                             .features = one_of({"", "{}", "[]"})}};
    switch (below(4)) {
      case 0: {
        Artifact artifact = fake_artifact(below(3), 300);
        artifact.label = one_of({"x", "y", "z"});
        artifact.created_at = 1 + below(3);
        artifact.parts[0].bytes.push_back(static_cast<char>(below(3)));
        put_artifact(store, artifact);
        break;
      }
      case 1:
        put_measurements(store, context,
                         std::vector{MeasurementRow{.config = one_of({"c", "d"}),
                                                    .session = one_of({"s", "t"}),
                                                    .status = below(2) == 0 ? TrialStatus::kTimed : TrialStatus::kWrong,
                                                    .rounds = below(3),
                                                    .p50_us = static_cast<double>(below(3)),
                                                    .measured_at = below(3)}});
        break;
      case 2:
        put_decision(store, context,
                     {.config = one_of({"c", "d", "e"}),
                      .tuned_us = static_cast<double>(below(3)),
                      .pinned = below(4) == 0,
                      .decided_at = below(3)});
        break;
      default:
        quarantine(store, {.subject = one_of({"x", "y"}),
                           .silicon_key = "a",
                           .reason = one_of({"hung", "crashed", "wrong"}),
                           .expires_at = below(3)});
    }
  }

 private:
  std::string one_of(std::initializer_list<const char*> texts) { return *(texts.begin() + below(std::ssize(texts))); }

  std::mt19937_64 random_;
};

void expect_order_does_not_matter(uint64_t seed) {
  SCOPED_TRACE(fmt::format("seed {}", seed));
  RandomRows random(seed);
  const test::TemporaryFolder folder;
  std::array<std::string, 3> files;
  for (size_t i = 0; i < files.size(); ++i) {
    int64_t now_ms = 0;
    const test::WatchedStore machine(folder / fmt::format("machine {}", i), {.now_ms = [&] { return now_ms; }});
    for (int64_t rows = random.below(24); rows > 0; --rows) {
      now_ms += 1000 * random.below(3);
      random.add_row(*machine.store);
    }
    files[i] = folder / fmt::format("{}.db", i);
    export_store(*machine.store, files[i]);
  }
  const auto merged = [&](const char* name, const std::vector<std::string>& order) {
    const test::WatchedStore store(folder / name);
    for (const std::string& file : order) merge_into(*store.store, file);
    EXPECT_THAT(verify_store(*store.store).problems, testing::IsEmpty());
    EXPECT_THAT(store.warnings, testing::IsEmpty());
    export_store(*store.store, folder / fmt::format("{}.db", name));
    return knowledge_of(*store.store);
  };
  const auto& [a, b, c] = files;
  const std::vector<std::string> expected = merged("in order", {a, b, c});
  EXPECT_EQ(merged("backwards", {c, b, a}), expected);
  EXPECT_EQ(merged("repeated", {b, a, b, c, a, c}), expected);
  merged("pair", {b, c});
  EXPECT_EQ(merged("grouped", {a, folder / "pair.db"}), expected);
}

TEST(Merge, IsIndependentOfOrderAndIdempotent) {
  const int rounds = std::getenv("HARRIER_TEST_THOROUGH") != nullptr ? 300 : 4;
  const uint64_t seed = std::random_device()();
  for (int round = 0; round < rounds; ++round) expect_order_does_not_matter(seed + static_cast<uint64_t>(round));
}

TEST(Merge, KeepsWhatBothMachinesKnow) {
  const test::TemporaryFolder folder;
  const test::WatchedStore here(folder / "here");
  const test::WatchedStore there(folder / "there");
  put_artifact(*here.store, fake_artifact(1));
  put_artifact(*there.store, fake_artifact(2));
  // Straight from a cache that is open and written to.
  const MergeReport report = merge_into(*here.store, there.store->path());
  EXPECT_EQ(report.artifacts, 1);
  EXPECT_EQ(find_artifact(*here.store, key_of(fake_artifact(1))), fake_artifact(1));
  EXPECT_EQ(find_artifact(*here.store, key_of(fake_artifact(2))), fake_artifact(2));
  EXPECT_EQ(merge_into(*here.store, there.store->path()).artifacts, 0);
  EXPECT_EQ(merge_into(*here.store, here.store->path()).artifacts, 0) << "with itself";
}

TEST(Merge, LeavesDamagedArtifactsOut) {
  const test::TemporaryFolder folder;
  const test::WatchedStore here(folder / "here");
  const test::WatchedStore there(folder / "there");
  put_artifact(*there.store, fake_artifact(1));
  put_artifact(*there.store, fake_artifact(2));
  there.store->write([](sqlite::Database& database) {
    database.run("UPDATE artifact SET architecture = 'sm_80' WHERE label = 'workload 1'");
  });
  const MergeReport report = merge_into(*here.store, there.store->path());
  EXPECT_EQ(report.artifacts, 1);
  EXPECT_EQ(report.damaged, 1);
  EXPECT_FALSE(find_artifact(*here.store, key_of(fake_artifact(1))));
}

TEST(Merge, RefusesWhatIsNoStore) {
  const test::TemporaryFolder folder;
  const test::WatchedStore here(folder / "here");
  const auto message = [&](const std::string& path) {
    try {
      merge_into(*here.store, path);
    } catch (const InvalidInput& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message(folder / "none.db"), HasSubstr("no such file"));
  std::ofstream(folder / "text") << std::string(5000, 'x');
  EXPECT_THAT(message(folder / "text"), HasSubstr("cannot be read"));
  sqlite::Database(folder / "theirs.db", sqlite::OpenMode::kReadWrite).execute("CREATE TABLE t(x)");
  EXPECT_THAT(message(folder / "theirs.db"), HasSubstr("not a cache of Harrier's"));
  export_store(*here.store, folder / "newer.db");
  sqlite::Database(folder / "newer.db", sqlite::OpenMode::kReadWrite).execute("PRAGMA user_version = 7");
  EXPECT_THAT(message(folder / "newer.db"), HasSubstr("version 7, this Harrier reads 1"));
}

TEST(Export, IsWrittenWholeOrNotAtAll) {
  const test::TemporaryFolder folder;
  const test::WatchedStore store(folder / "cache");
  put_artifact(*store.store, fake_artifact(1));
  EXPECT_THROW(export_store(*store.store, folder / "none/exported.db"), InvalidInput);
  export_store(*store.store, folder / "exported.db");
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) names.push_back(entry.path().filename());
  EXPECT_THAT(names, testing::UnorderedElementsAre("cache", "exported.db"));
}

}  // namespace
}  // namespace harrier
