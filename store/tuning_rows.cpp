#include "store/tuning_rows.h"

#include <array>
#include <cmath>

#include "ir/error.h"
#include "store/sqlite.h"

namespace harrier {
namespace {

constexpr std::array<std::pair<TrialStatus, std::string_view>, 7> kStatusNames = {
    {{TrialStatus::kTimed, "timed"},
     {TrialStatus::kNotCompiled, "not compiled"},
     {TrialStatus::kSpilled, "spilled"},
     {TrialStatus::kWrong, "wrong"},
     {TrialStatus::kCrashed, "crashed"},
     {TrialStatus::kTimedOut, "timed out"},
     {TrialStatus::kSlow, "slow"}}};

/// A row of a status that this version does not know was made by another, and says nothing of speed.
TrialStatus status_of(std::string_view name) {
  for (const auto& [status, text] : kStatusNames) {
    if (text == name) return status;
  }
  return TrialStatus::kCrashed;
}

/// SQLite keeps no NaN; and there is one zero, so that equal rows are equal bytes.
double number(double value) { return std::isnan(value) ? 0.0 : value + 0.0; }

void upsert_device(sqlite::Database& database, const DeviceRow& row) {
  database.run(
      "INSERT INTO device(silicon_key, name, capability, multiprocessors, l2_bytes, shared_bytes_per_block,"
      " memory_bus_bits, memory_clock_khz, calibration, calibrated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
      " ON CONFLICT(silicon_key) DO UPDATE SET"
      " name = iif(excluded.name = '', name, excluded.name),"
      " capability = iif(excluded.capability = 0, capability, excluded.capability),"
      " multiprocessors = iif(excluded.multiprocessors = 0, multiprocessors, excluded.multiprocessors),"
      " l2_bytes = iif(excluded.l2_bytes = 0, l2_bytes, excluded.l2_bytes),"
      " shared_bytes_per_block ="
      "   iif(excluded.shared_bytes_per_block = 0, shared_bytes_per_block, excluded.shared_bytes_per_block),"
      " memory_bus_bits = iif(excluded.memory_bus_bits = 0, memory_bus_bits, excluded.memory_bus_bits),"
      " memory_clock_khz = iif(excluded.memory_clock_khz = 0, memory_clock_khz, excluded.memory_clock_khz),"
      " calibration = iif(excluded.calibration = '', calibration, excluded.calibration),"
      " calibrated_at = iif(excluded.calibrated_at = 0, calibrated_at, excluded.calibrated_at)",
      {row.silicon_key, row.name, row.capability, row.multiprocessors, row.l2_bytes, row.shared_bytes_per_block,
       row.memory_bus_bits, row.memory_clock_khz, row.calibration, row.calibrated_at});
}

struct ContextIds {
  int64_t device = 0;
  int64_t environment = 0;
  int64_t workload = 0;
};

ContextIds upsert_context(sqlite::Database& database, const TuningContext& context) {
  const auto& [device, environment, workload] = context;
  upsert_device(database, device);
  database.run(
      "INSERT INTO environment(key, description) VALUES (?1, ?2)"
      " ON CONFLICT(key) DO UPDATE SET description = iif(excluded.description = '', description, excluded.description)",
      {environment.key, environment.description});
  database.run(
      "INSERT INTO workload(pattern_key, bucket_key, pattern, features) VALUES (?1, ?2, ?3, ?4)"
      " ON CONFLICT(pattern_key, bucket_key) DO UPDATE SET"
      " pattern = iif(excluded.pattern = '', pattern, excluded.pattern),"
      " features = iif(excluded.features = '', features, excluded.features)",
      {workload.pattern_key, workload.bucket_key, workload.pattern, workload.features});
  return {.device = database.integer("SELECT id FROM device WHERE silicon_key = ?1", {device.silicon_key}),
          .environment = database.integer("SELECT id FROM environment WHERE key = ?1", {environment.key}),
          .workload = database.integer("SELECT id FROM workload WHERE pattern_key = ?1 AND bucket_key = ?2",
                                       {workload.pattern_key, workload.bucket_key})};
}

int64_t config_id(sqlite::Database& database, const std::string& config) {
  database.run("INSERT OR IGNORE INTO config(text) VALUES (?1)", {config});
  return database.integer("SELECT id FROM config WHERE text = ?1", {config});
}

DeviceRow read_device(const sqlite::Rows& rows, int column) {
  return {.silicon_key = rows.text(column),
          .name = rows.text(column + 1),
          .capability = rows.integer(column + 2),
          .multiprocessors = rows.integer(column + 3),
          .l2_bytes = rows.integer(column + 4),
          .shared_bytes_per_block = rows.integer(column + 5),
          .memory_bus_bits = rows.integer(column + 6),
          .memory_clock_khz = rows.integer(column + 7),
          .calibration = rows.text(column + 8),
          .calibrated_at = rows.integer(column + 9)};
}

#define HARRIER_DEVICE_COLUMNS                                                                    \
  "d.silicon_key, d.name, d.capability, d.multiprocessors, d.l2_bytes, d.shared_bytes_per_block," \
  " d.memory_bus_bits, d.memory_clock_khz, d.calibration, d.calibrated_at"
#define HARRIER_CONTEXT_COLUMNS \
  HARRIER_DEVICE_COLUMNS ", e.key, e.description, w.pattern_key, w.bucket_key, w.pattern, w.features"
// Empty parameters match everything.
#define HARRIER_CONTEXT_JOINS                                                          \
  " JOIN device d ON d.id = t.device_id JOIN environment e ON e.id = t.environment_id" \
  " JOIN workload w ON w.id = t.workload_id JOIN config c ON c.id = t.config_id"       \
  " WHERE (?1 = '' OR d.silicon_key = ?1) AND (?2 = '' OR e.key = ?2)"                 \
  " AND (?3 = '' OR w.pattern_key = ?3) AND (?4 = '' OR w.bucket_key = ?4)"            \
  " ORDER BY d.silicon_key, e.key, w.pattern_key, w.bucket_key"

constexpr int kContextColumns = 16;

TuningContext read_context(const sqlite::Rows& rows) {
  return {.device = read_device(rows, 0),
          .environment = {.key = rows.text(10), .description = rows.text(11)},
          .workload = {.pattern_key = rows.text(12),
                       .bucket_key = rows.text(13),
                       .pattern = rows.text(14),
                       .features = rows.text(15)}};
}

MeasurementRow read_measurement(const sqlite::Rows& rows) {
  constexpr int kFirst = kContextColumns;
  return {.config = rows.text(kFirst),
          .session = rows.text(kFirst + 1),
          .artifact = rows.text(kFirst + 2),
          .status = status_of(rows.text(kFirst + 3)),
          .note = rows.text(kFirst + 4),
          .rounds = rows.integer(kFirst + 5),
          .p20_us = rows.real(kFirst + 6),
          .p50_us = rows.real(kFirst + 7),
          .p80_us = rows.real(kFirst + 8),
          .predicted_us = rows.real(kFirst + 9),
          .log_ratio = rows.real(kFirst + 10),
          .log_ratio_low = rows.real(kFirst + 11),
          .log_ratio_high = rows.real(kFirst + 12),
          .details = rows.text(kFirst + 13),
          .driver = rows.text(kFirst + 14),
          .measured_at = rows.integer(kFirst + 15)};
}

DecisionRow read_decision(const sqlite::Rows& rows) {
  constexpr int kFirst = kContextColumns;
  return {.config = rows.text(kFirst),
          .artifact = rows.text(kFirst + 1),
          .default_us = rows.real(kFirst + 2),
          .tuned_us = rows.real(kFirst + 3),
          .margin = rows.real(kFirst + 4),
          .space_hash = rows.text(kFirst + 5),
          .effort = rows.text(kFirst + 6),
          .details = rows.text(kFirst + 7),
          .driver = rows.text(kFirst + 8),
          .verified = rows.integer(kFirst + 9) != 0,
          .pinned = rows.integer(kFirst + 10) != 0,
          .generation = rows.integer(kFirst + 11),
          .decided_at = rows.integer(kFirst + 12)};
}

}  // namespace

std::string_view print(TrialStatus status) {
  for (const auto& [known, text] : kStatusNames) {
    if (known == status) return text;
  }
  return "unknown";
}

bool put_device(Store& store, const DeviceRow& row) {
  return store.write([&](sqlite::Database& database) { upsert_device(database, row); });
}

std::optional<DeviceRow> find_device(Store& store, std::string_view silicon_key) {
  std::optional<DeviceRow> found;
  store.read([&](sqlite::Database& database) {
    found.reset();
    sqlite::Rows rows =
        database.query("SELECT " HARRIER_DEVICE_COLUMNS " FROM device d WHERE silicon_key = ?1", {silicon_key});
    if (rows.next()) found = read_device(rows, 0);
  });
  return found;
}

bool put_measurements(Store& store, const TuningContext& context, std::span<const MeasurementRow> measurements) {
  return store.write([&](sqlite::Database& database) {
    const ContextIds ids = upsert_context(database, context);
    for (const MeasurementRow& row : measurements) {
      database.run(
          "INSERT OR REPLACE INTO measurement(workload_id, device_id, environment_id, session, config_id, artifact,"
          " status, note, rounds, p20_us, p50_us, p80_us, predicted_us, log_ratio, log_ratio_low, log_ratio_high,"
          " details, driver, measured_at)"
          " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
          {ids.workload, ids.device, ids.environment, row.session, config_id(database, row.config), row.artifact,
           print(row.status), row.note, row.rounds, number(row.p20_us), number(row.p50_us), number(row.p80_us),
           number(row.predicted_us), number(row.log_ratio), number(row.log_ratio_low), number(row.log_ratio_high),
           row.details, row.driver, row.measured_at});
    }
  });
}

std::vector<FoundMeasurement> find_measurements(Store& store, const TuningQuery& query) {
  std::vector<FoundMeasurement> found;
  store.read([&](sqlite::Database& database) {
    found.clear();
    sqlite::Rows rows = database.query(
        "SELECT " HARRIER_CONTEXT_COLUMNS
        ", c.text, t.session, t.artifact, t.status, t.note, t.rounds, t.p20_us, t.p50_us, t.p80_us, t.predicted_us,"
        " t.log_ratio, t.log_ratio_low, t.log_ratio_high, t.details, t.driver, t.measured_at"
        " FROM measurement t" HARRIER_CONTEXT_JOINS ", t.session, c.text",
        {query.silicon_key, query.environment_key, query.pattern_key, query.bucket_key});
    while (rows.next()) found.push_back({.context = read_context(rows), .measurement = read_measurement(rows)});
  });
  return found;
}

bool put_decision(Store& store, const TuningContext& context, const DecisionRow& row) {
  bool is_put = false;
  store.write([&](sqlite::Database& database) {
    const ContextIds ids = upsert_context(database, context);
    is_put =
        database.run(
            "INSERT INTO decision(workload_id, device_id, environment_id, config_id, artifact, default_us, tuned_us,"
            " margin, space_hash, effort, details, driver, verified, pinned, generation, decided_at)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
            " ON CONFLICT(workload_id, device_id, environment_id) DO UPDATE SET"
            " config_id = excluded.config_id, artifact = excluded.artifact, default_us = excluded.default_us,"
            " tuned_us = excluded.tuned_us, margin = excluded.margin, space_hash = excluded.space_hash,"
            " effort = excluded.effort, details = excluded.details, driver = excluded.driver,"
            " verified = excluded.verified, pinned = excluded.pinned, generation = generation + 1,"
            " decided_at = excluded.decided_at WHERE pinned = 0 OR excluded.pinned = 1",
            {ids.workload, ids.device, ids.environment, config_id(database, row.config), row.artifact,
             number(row.default_us), number(row.tuned_us), number(row.margin), row.space_hash, row.effort, row.details,
             row.driver, int64_t{row.verified}, int64_t{row.pinned}, row.generation, row.decided_at}) > 0;
  });
  return is_put;
}

int64_t release_pins(Store& store, const TuningQuery& query) {
  int64_t released = 0;
  store.write([&](sqlite::Database& database) {
    released = database.run(
        "DELETE FROM decision WHERE pinned = 1"
        " AND (?1 = '' OR device_id IN (SELECT id FROM device WHERE silicon_key = ?1))"
        " AND (?2 = '' OR environment_id IN (SELECT id FROM environment WHERE key = ?2))"
        " AND (?3 = '' OR workload_id IN (SELECT id FROM workload WHERE pattern_key = ?3))"
        " AND (?4 = '' OR workload_id IN (SELECT id FROM workload WHERE bucket_key = ?4))",
        {query.silicon_key, query.environment_key, query.pattern_key, query.bucket_key});
  });
  return released;
}

std::vector<FoundDecision> find_decisions(Store& store, const TuningQuery& query) {
  std::vector<FoundDecision> found;
  store.read([&](sqlite::Database& database) {
    found.clear();
    sqlite::Rows rows = database.query(
        "SELECT " HARRIER_CONTEXT_COLUMNS
        ", c.text, t.artifact, t.default_us, t.tuned_us, t.margin, t.space_hash, t.effort, t.details, t.driver,"
        " t.verified, t.pinned, t.generation, t.decided_at FROM decision t" HARRIER_CONTEXT_JOINS,
        {query.silicon_key, query.environment_key, query.pattern_key, query.bucket_key});
    while (rows.next()) found.push_back({.context = read_context(rows), .decision = read_decision(rows)});
  });
  return found;
}

bool quarantine(Store& store, const QuarantineRow& row) {
  return store.write([&](sqlite::Database& database) {
    database.run(
        "INSERT INTO quarantine(subject, silicon_key, reason, hits, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT(subject, silicon_key) DO UPDATE SET"
        " reason = excluded.reason, hits = hits + 1, expires_at = excluded.expires_at",
        {row.subject, row.silicon_key, row.reason, row.hits, row.expires_at});
  });
}

bool release_quarantine(Store& store, std::string_view subject, std::string_view silicon_key) {
  return store.write([&](sqlite::Database& database) {
    database.run("DELETE FROM quarantine WHERE subject = ?1 AND silicon_key = ?2", {subject, silicon_key});
  });
}

std::optional<QuarantineRow> find_quarantine(Store& store, std::string_view subject, std::string_view silicon_key,
                                             int64_t now) {
  std::optional<QuarantineRow> found;
  store.read([&](sqlite::Database& database) {
    found.reset();
    sqlite::Rows rows = database.query(
        "SELECT subject, silicon_key, reason, hits, expires_at FROM quarantine"
        " WHERE subject = ?1 AND silicon_key = ?2 AND (expires_at = 0 OR expires_at > ?3)",
        {subject, silicon_key, now});
    if (rows.next()) {
      found = {.subject = rows.text(0),
               .silicon_key = rows.text(1),
               .reason = rows.text(2),
               .hits = rows.integer(3),
               .expires_at = rows.integer(4)};
    }
  });
  return found;
}

}  // namespace harrier
