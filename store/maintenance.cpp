#include "store/maintenance.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "ir/error.h"
#include "store/artifact_rows.h"
#include "store/sha256.h"
#include "store/sqlite.h"
#include "store/trim.h"

namespace harrier {
namespace {

int64_t file_bytes(sqlite::Database& database) {
  return database.integer("PRAGMA page_count") * database.integer("PRAGMA page_size");
}

void check_pages(sqlite::Database& database, VerifyReport& report) {
  constexpr size_t kMostLines = 100;
  for (const char* check : {"PRAGMA integrity_check", "PRAGMA foreign_key_check"}) {
    sqlite::Rows rows = database.query(check);
    while (report.problems.size() < kMostLines && rows.next()) {
      if (rows.text(0) != "ok") report.problems.push_back(fmt::format("{}: {}", check + 7, rows.text(0)));
    }
  }
}

void check_blobs(sqlite::Database& database, VerifyReport& report) {
  sqlite::Rows rows = database.query("SELECT sha, bytes FROM blob");
  while (rows.next()) {
    ++report.blobs;
    if (sha256_of(rows.bytes(1)) != rows.text(0)) {
      report.problems.push_back(fmt::format("blob {}: its bytes have another hash", rows.text(0)));
    }
  }
}

void check_artifacts(sqlite::Database& database, VerifyReport& report) {
  std::vector<std::string> keys;
  {
    sqlite::Rows rows = database.query("SELECT key FROM artifact ORDER BY key");
    while (rows.next()) keys.push_back(rows.text(0));
  }
  for (const std::string& key : keys) {
    const std::optional<ArtifactRows> found = read_artifact(database, "main", key);
    // It may have been deleted meanwhile.
    if (!found) continue;
    ++report.artifacts;
    if (!found->is_sound) report.problems.push_back(fmt::format("artifact {}: its seal or a hash is wrong", key));
  }
}

}  // namespace

StoreSummary summarize(Store& store) {
  StoreSummary summary;
  store.require_read([&](sqlite::Database& database) {
    const auto count = [&](const char* table) {
      return database.integer(fmt::format("SELECT count(*) FROM {}", table));
    };
    summary = {.artifacts = count("artifact"),
               .artifact_bytes = artifact_bytes(database),
               .file_bytes = file_bytes(database),
               .devices = count("device"),
               .workloads = count("workload"),
               .measurements = count("measurement"),
               .decisions = count("decision"),
               .quarantined = count("quarantine")};
  });
  return summary;
}

std::vector<ArtifactSummary> list_artifacts(Store& store, const std::string& prefix) {
  std::vector<ArtifactSummary> artifacts;
  store.require_read([&](sqlite::Database& database) {
    artifacts.clear();
    sqlite::Rows rows = database.query(
        "SELECT key, source_key, toolchain, architecture, label, bytes, compile_us, created_at, used_at,"
        " EXISTS (SELECT 1 FROM decision WHERE artifact = key) FROM artifact"
        " WHERE substr(key, 1, length(?1)) = ?1 ORDER BY used_at DESC, key",
        {prefix});
    while (rows.next()) {
      artifacts.push_back({.key = rows.text(0),
                           .source_key = rows.text(1),
                           .toolchain = rows.text(2),
                           .architecture = rows.text(3),
                           .label = rows.text(4),
                           .bytes = rows.integer(5),
                           .compile_us = rows.real(6),
                           .created_at = rows.integer(7),
                           .used_at = rows.integer(8),
                           .is_decided = rows.integer(9) != 0});
    }
  });
  return artifacts;
}

VerifyReport verify_store(Store& store) {
  VerifyReport report;
  store.require_read([&](sqlite::Database& database) {
    report = {};
    check_pages(database, report);
    check_blobs(database, report);
    check_artifacts(database, report);
  });
  return report;
}

GarbageReport collect_garbage(Store& store, int64_t limit_bytes) {
  GarbageReport report;
  const int64_t now_ms = store.now_ms();
  store.require_write([&](sqlite::Database& database) {
    report = {.bytes_before = file_bytes(database)};
    report.artifacts = trim_artifacts(database, limit_bytes);
    report.blobs = delete_lone_blobs(database);
    database.run("DELETE FROM lease WHERE expires_at_ms <= ?1", {now_ms});
    database.run("DELETE FROM quarantine WHERE expires_at <> 0 AND expires_at <= ?1", {now_ms / 1000});
  });
  store.require_read([&](sqlite::Database& database) {
    database.run("PRAGMA incremental_vacuum");
    database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    report.bytes_after = file_bytes(database);
  });
  return report;
}

void export_store(Store& store, const std::string& path) {
  const std::string unfinished = fmt::format("{}.{}.unfinished", path, getpid());
  try {
    store.require_read([&](sqlite::Database& database) {
      std::remove(unfinished.c_str());
      database.run("VACUUM INTO ?1", {unfinished});
    });
    {
      sqlite::Database copy(unfinished, sqlite::OpenMode::kReadWrite);
      copy.execute("PRAGMA journal_mode = DELETE; DELETE FROM lease; DELETE FROM toolchain; VACUUM");
    }
    std::filesystem::rename(unfinished, path);
  } catch (const std::filesystem::filesystem_error& error) {
    std::remove(unfinished.c_str());
    throw InvalidInput(fmt::format("{}: cannot be written: {}: name another file", path, error.code().message()));
  } catch (const sqlite::SqliteError& error) {
    std::remove(unfinished.c_str());
    throw InvalidInput(fmt::format("{}: cannot be written: {}: name another file", path, error.what()));
  } catch (const InvalidInput&) {
    std::remove(unfinished.c_str());
    throw;
  }
}

}  // namespace harrier
