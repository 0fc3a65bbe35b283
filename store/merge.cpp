#include "store/merge.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "ir/error.h"
#include "store/artifact_rows.h"
#include "store/migrate.h"
#include "store/sqlite.h"

namespace harrier {
namespace {

// Every rule here picks the greater (or lesser) of two rows in an order of all that they say, so that merging is
// commutative, associative and idempotent.

constexpr const char* kMergeContexts = R"(
INSERT INTO device(silicon_key, name, capability, multiprocessors, l2_bytes, shared_bytes_per_block, memory_bus_bits,
                   memory_clock_khz, calibration, calibrated_at)
  SELECT silicon_key, name, capability, multiprocessors, l2_bytes, shared_bytes_per_block, memory_bus_bits,
         memory_clock_khz, calibration, calibrated_at FROM other.device WHERE true
  ON CONFLICT(silicon_key) DO UPDATE SET
    name = max(name, excluded.name), capability = max(capability, excluded.capability),
    multiprocessors = max(multiprocessors, excluded.multiprocessors), l2_bytes = max(l2_bytes, excluded.l2_bytes),
    shared_bytes_per_block = max(shared_bytes_per_block, excluded.shared_bytes_per_block),
    memory_bus_bits = max(memory_bus_bits, excluded.memory_bus_bits),
    memory_clock_khz = max(memory_clock_khz, excluded.memory_clock_khz),
    calibration = iif((excluded.calibrated_at, excluded.calibration) > (calibrated_at, calibration),
                      excluded.calibration, calibration),
    calibrated_at = max(calibrated_at, excluded.calibrated_at);
INSERT INTO environment(key, description) SELECT key, description FROM other.environment WHERE true
  ON CONFLICT(key) DO UPDATE SET description = max(description, excluded.description);
INSERT INTO workload(pattern_key, bucket_key, pattern, features)
  SELECT pattern_key, bucket_key, pattern, features FROM other.workload WHERE true
  ON CONFLICT(pattern_key, bucket_key) DO UPDATE SET
    pattern = max(pattern, excluded.pattern), features = max(features, excluded.features);
INSERT OR IGNORE INTO config(text) SELECT text FROM other.config;
INSERT INTO quarantine(subject, silicon_key, reason, hits, expires_at)
  SELECT subject, silicon_key, reason, hits, expires_at FROM other.quarantine WHERE true
  ON CONFLICT(subject, silicon_key) DO UPDATE SET
    hits = max(hits, excluded.hits),
    reason = iif((excluded.expires_at = 0, excluded.expires_at, excluded.reason) > (expires_at = 0, expires_at, reason),
                 excluded.reason, reason),
    expires_at = iif((excluded.expires_at = 0, excluded.expires_at) > (expires_at = 0, expires_at),
                     excluded.expires_at, expires_at);
)";

// Ids of the other file become ours by what they stand for.
constexpr const char* kOursForTheirs = R"(
  JOIN other.workload ow ON ow.id = t.workload_id
  JOIN main.workload w ON w.pattern_key = ow.pattern_key AND w.bucket_key = ow.bucket_key
  JOIN other.device od ON od.id = t.device_id JOIN main.device d ON d.silicon_key = od.silicon_key
  JOIN other.environment oe ON oe.id = t.environment_id JOIN main.environment e ON e.key = oe.key
  JOIN other.config oc ON oc.id = t.config_id JOIN main.config c ON c.text = oc.text
  WHERE true)";

/// Columns beside the key, most telling first; the config by its text.
constexpr const char* kMeasurementColumns =
    "measured_at rounds status artifact note p20_us p50_us p80_us predicted_us log_ratio log_ratio_low log_ratio_high "
    "details driver";
constexpr const char* kDecisionColumns =
    "pinned decided_at generation config_id artifact default_us tuned_us margin space_hash effort details driver "
    "verified";

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

/// Inserts rows of a table; where the key is there, the greater row in the order of `columns` stays.
std::string merge_rows(const char* table, const std::string& key, const std::string& key_values, const char* columns) {
  std::string names;
  std::string values;
  std::string ours;
  std::string theirs;
  std::string sets;
  for (const std::string& column : words_of(columns)) {
    const char* comma = names.empty() ? "" : ", ";
    const bool is_config = column == "config_id";
    names += comma + column;
    values += comma + (is_config ? "c.id" : "t." + column);
    sets += fmt::format("{}{} = excluded.{}", comma, column, column);
    const auto compared = [&](const std::string& name) {
      return is_config ? fmt::format("(SELECT text FROM main.config WHERE id = {})", name) : name;
    };
    ours += comma + compared(fmt::format("{}.{}", table, column));
    theirs += comma + compared("excluded." + column);
  }
  return fmt::format(
      "INSERT INTO main.{0}({1}, {2}) SELECT {3}, {4} FROM other.{0} t {5}"
      " ON CONFLICT({1}) DO UPDATE SET {6} WHERE ({7}) > ({8})",
      table, key, names, key_values, values, kOursForTheirs, sets, theirs, ours);
}

void merge_artifact(sqlite::Database& database, const std::string& key, MergeReport& report) {
  std::optional<ArtifactRows> theirs = read_artifact(database, "other", key);
  if (!theirs || !theirs->is_sound) {
    ++report.damaged;
    return;
  }
  std::string our_seal;
  {
    sqlite::Rows ours =
        database.query("SELECT seal, created_at, used_at, compile_us, label FROM main.artifact WHERE key = ?1", {key});
    if (ours.next()) {
      our_seal = ours.text(0);
      Artifact& artifact = theirs->artifact;
      artifact.created_at = std::min(artifact.created_at, ours.integer(1));
      theirs->used_at = std::max(theirs->used_at, ours.integer(2));
      artifact.compile_us = std::min(artifact.compile_us, ours.real(3));
      artifact.label = std::min(artifact.label, ours.text(4));
    }
  }
  if (our_seal.empty() || theirs->seal < our_seal) {
    if (our_seal.empty()) ++report.artifacts;
    database.run("DELETE FROM main.artifact WHERE key = ?1", {key});
    insert_artifact(database, *theirs);
    return;
  }
  database.run(
      "UPDATE main.artifact SET created_at = ?2, used_at = ?3, compile_us = ?4, label = ?5 WHERE key = ?1",
      {key, theirs->artifact.created_at, theirs->used_at, theirs->artifact.compile_us, theirs->artifact.label});
}

std::vector<std::string> keys_of(sqlite::Database& database) {
  std::vector<std::string> keys;
  sqlite::Rows rows = database.query("SELECT key FROM other.artifact ORDER BY key");
  while (rows.next()) keys.push_back(rows.text(0));
  return keys;
}

MergeReport merge_attached(sqlite::Database& database) {
  MergeReport report;
  for (const std::string& key : keys_of(database)) merge_artifact(database, key, report);
  database.execute(kMergeContexts);
  report.measurements =
      database.run(merge_rows("measurement", "workload_id, device_id, environment_id, session, config_id",
                              "w.id, d.id, e.id, t.session, c.id", kMeasurementColumns));
  report.decisions = database.run(
      merge_rows("decision", "workload_id, device_id, environment_id", "w.id, d.id, e.id", kDecisionColumns));
  return report;
}

/// Refuses what is no store, before it is attached.
void check_other(const std::string& path) {
  if (!std::filesystem::is_regular_file(path)) {
    throw InvalidInput(fmt::format("{}: no such file: name a file that `harrier cache export` wrote", path));
  }
  try {
    sqlite::Database other(path, sqlite::OpenMode::kReadOnly);
    if (other.integer("PRAGMA application_id") != kStoreApplicationId) {
      throw InvalidInput(fmt::format("{}: not a cache of Harrier's: `harrier cache export` writes one", path));
    }
    const int64_t version = other.integer("PRAGMA user_version");
    if (version != kStoreVersion) {
      throw InvalidInput(
          fmt::format("{}: a cache of version {}, this Harrier reads {}: export it with the same Harrier", path,
                      version, kStoreVersion));
    }
    const std::string finding = other.text("PRAGMA quick_check(1)");
    if (finding != "ok") throw InvalidInput(fmt::format("{}: damaged: {}: export it again", path, finding));
  } catch (const sqlite::SqliteError& error) {
    throw InvalidInput(fmt::format("{}: cannot be read: {}: export it again", path, error.what()));
  }
}

/// Detaches at the end.
class Attached {
 public:
  Attached(sqlite::Database& database, const std::string& path) : database_(database) {
    database_.run("ATTACH ?1 AS other", {sqlite::read_only_uri(path)});
  }
  ~Attached() { database_.try_run("DETACH other"); }
  Attached(const Attached&) = delete;
  Attached& operator=(const Attached&) = delete;

 private:
  sqlite::Database& database_;
};

}  // namespace

MergeReport merge_into(Store& store, const std::string& other_path) {
  check_other(other_path);
  std::error_code ignored;
  if (std::filesystem::equivalent(other_path, store.path(), ignored)) return {};
  MergeReport report;
  // Writable, which require_read does not ask.
  store.require_write([](sqlite::Database&) {});
  store.require_read([&](sqlite::Database& database) {
    const Attached attached(database, other_path);
    sqlite::Transaction transaction(database);
    report = merge_attached(database);
    transaction.commit();
  });
  return report;
}

}  // namespace harrier
