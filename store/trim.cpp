#include "store/trim.h"

#include <string>
#include <utility>
#include <vector>

namespace harrier {

int64_t artifact_bytes(sqlite::Database& database) {
  return database.integer("SELECT coalesce(sum(bytes), 0) FROM artifact");
}

int64_t trim_artifacts(sqlite::Database& database, int64_t limit_bytes, std::string_view spared_key) {
  int64_t bytes = artifact_bytes(database);
  if (bytes <= limit_bytes) return 0;
  // A little more than asked for, so that the next artifact does not trim again.
  const int64_t target = limit_bytes - limit_bytes / 10;
  std::vector<std::pair<int64_t, int64_t>> candidates;
  {
    sqlite::Rows rows = database.query(
        "SELECT id, bytes FROM artifact WHERE key <> ?1 AND NOT EXISTS (SELECT 1 FROM decision WHERE artifact = key)"
        " ORDER BY used_at, key",
        {spared_key});
    while (rows.next()) candidates.emplace_back(rows.integer(0), rows.integer(1));
  }
  int64_t deleted = 0;
  for (const auto& [id, size] : candidates) {
    if (bytes <= target) break;
    database.run("DELETE FROM artifact WHERE id = ?1", {id});
    bytes -= size;
    ++deleted;
  }
  if (deleted > 0) delete_lone_blobs(database);
  return deleted;
}

int64_t delete_lone_blobs(sqlite::Database& database) {
  return database.run("DELETE FROM blob WHERE NOT EXISTS (SELECT 1 FROM part WHERE blob_sha = sha)");
}

}  // namespace harrier
