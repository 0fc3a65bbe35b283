#include "store/artifacts.h"

#include <fmt/format.h>

#include "store/artifact_rows.h"
#include "store/sha256.h"
#include "store/trim.h"

namespace harrier {
namespace {

constexpr int64_t kMillisecondsPerSecond = 1000;
constexpr int64_t kSecondsPerDay = 86400;

/// Takes out the row, and with a blob that has changed everything that holds it.
void delete_damaged(sqlite::Database& database, const ArtifactRows& damaged) {
  database.run("DELETE FROM artifact WHERE id = ?1", {damaged.id});
  for (const std::string& sha : damaged.bad_blobs) {
    database.run("DELETE FROM artifact WHERE id IN (SELECT artifact_id FROM part WHERE blob_sha = ?1)", {sha});
    database.run("DELETE FROM blob WHERE sha = ?1", {sha});
  }
}

bool put(Store& store, Artifact artifact, bool replaces) {
  ArtifactRows rows = rows_of(std::move(artifact));
  rows.used_at = store.now_ms() / kMillisecondsPerSecond;
  if (rows.artifact.created_at == 0) rows.artifact.created_at = rows.used_at;
  return store.write([&](sqlite::Database& database) {
    if (replaces) database.run("DELETE FROM artifact WHERE key = ?1", {rows.key});
    if (database.integer("SELECT count(*) FROM artifact WHERE key = ?1", {rows.key}) > 0) return;
    insert_artifact(database, rows);
    trim_artifacts(database, store.options().size_limit_bytes, rows.key);
  });
}

}  // namespace

std::string artifact_key(std::string_view source_key, std::string_view toolchain) {
  return sha256_of_texts({"artifact", source_key, toolchain});
}

std::optional<Artifact> find_artifact(Store& store, std::string_view key) {
  std::optional<ArtifactRows> found;
  store.read([&](sqlite::Database& database) { found = read_artifact(database, "main", key); });
  if (!found) return std::nullopt;
  if (!found->is_sound) {
    store.warn_once(
        fmt::format("the cache {} held damaged machine code, which was deleted: it is compiled again", store.path()));
    store.write([&](sqlite::Database& database) { delete_damaged(database, *found); });
    return std::nullopt;
  }
  const int64_t now = store.now_ms() / kMillisecondsPerSecond;
  if (found->used_at < now - kSecondsPerDay && store.state() == StoreState::kReadWrite) {
    store.write([&](sqlite::Database& database) {
      database.run("UPDATE artifact SET used_at = ?2 WHERE id = ?1", {found->id, now});
    });
  }
  return std::move(found->artifact);
}

std::optional<Artifact> find_artifact_of_source(Store& store, std::string_view source_key) {
  std::string key;
  store.read([&](sqlite::Database& database) {
    key =
        database.text("SELECT key FROM artifact WHERE source_key = ?1 ORDER BY created_at DESC, toolchain DESC LIMIT 1",
                      {source_key});
  });
  if (key.empty()) return std::nullopt;
  return find_artifact(store, key);
}

bool put_artifact(Store& store, Artifact artifact) { return put(store, std::move(artifact), false); }
bool replace_artifact(Store& store, Artifact artifact) { return put(store, std::move(artifact), true); }

std::optional<ToolchainRow> find_toolchain(Store& store, std::string_view wish) {
  std::optional<ToolchainRow> found;
  store.read([&](sqlite::Database& database) {
    found.reset();
    sqlite::Rows rows = database.query("SELECT wish, path, stamp, identity FROM toolchain WHERE wish = ?1", {wish});
    if (rows.next()) {
      found = {.wish = rows.text(0), .path = rows.text(1), .stamp = rows.text(2), .identity = rows.text(3)};
    }
  });
  return found;
}

bool put_toolchain(Store& store, const ToolchainRow& row) {
  return store.write([&](sqlite::Database& database) {
    database.run("INSERT OR REPLACE INTO toolchain(wish, path, stamp, identity) VALUES (?1, ?2, ?3, ?4)",
                 {row.wish, row.path, row.stamp, row.identity});
  });
}

}  // namespace harrier
