#include "store/artifact_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "store/sha256.h"

namespace harrier {

std::string seal_of(std::string_view key, std::string_view architecture, const std::vector<PartRow>& parts) {
  std::vector<std::string_view> texts = {key, architecture};
  for (const PartRow& part : parts) texts.insert(texts.end(), {part.name, part.sha, part.details});
  return sha256_of_texts(texts);
}

ArtifactRows rows_of(Artifact artifact) {
  std::ranges::sort(artifact.parts, {}, [](const ArtifactPart& part) { return part.name; });
  ArtifactRows rows{.key = artifact_key(artifact.source_key, artifact.toolchain), .artifact = std::move(artifact)};
  for (const ArtifactPart& part : rows.artifact.parts) {
    rows.parts.push_back({.name = part.name, .sha = sha256_of(part.bytes), .details = part.details});
  }
  rows.seal = seal_of(rows.key, rows.artifact.architecture, rows.parts);
  return rows;
}

std::optional<ArtifactRows> read_artifact(sqlite::Database& database, std::string_view schema, std::string_view key) {
  std::optional<ArtifactRows> found;
  // One statement, so that everything is of one moment. A part without its blob comes with an empty hash.
  sqlite::Rows rows = database.query(
      fmt::format("SELECT a.id, a.key, a.source_key, a.toolchain, a.architecture, a.label, a.compile_us, a.created_at,"
                  " a.used_at, a.seal, p.name, p.details, b.sha, b.bytes FROM {0}.artifact a"
                  " LEFT JOIN {0}.part p ON p.artifact_id = a.id LEFT JOIN {0}.blob b ON b.sha = p.blob_sha"
                  " WHERE a.key = ?1 ORDER BY p.name",
                  schema),
      {key});
  while (rows.next()) {
    if (!found) {
      found = {.id = rows.integer(0),
               .key = rows.text(1),
               .seal = rows.text(9),
               .used_at = rows.integer(8),
               .artifact = {.source_key = rows.text(2),
                            .toolchain = rows.text(3),
                            .architecture = rows.text(4),
                            .label = rows.text(5),
                            .compile_us = rows.real(6),
                            .parts = {},
                            .created_at = rows.integer(7)}};
    }
    found->artifact.parts.push_back({.name = rows.text(10), .bytes = rows.bytes(13), .details = rows.text(11)});
    const ArtifactPart& part = found->artifact.parts.back();
    found->parts.push_back({.name = part.name, .sha = rows.text(12), .details = part.details});
    const std::string& sha = found->parts.back().sha;
    if (sha256_of(part.bytes) != sha) found->bad_blobs.push_back(sha);
  }
  if (!found) return std::nullopt;
  const Artifact& artifact = found->artifact;
  found->is_sound = found->bad_blobs.empty() && found->key == artifact_key(artifact.source_key, artifact.toolchain) &&
                    found->seal == seal_of(found->key, artifact.architecture, found->parts);
  return found;
}

void insert_artifact(sqlite::Database& database, const ArtifactRows& rows) {
  const Artifact& artifact = rows.artifact;
  int64_t bytes = 0;
  for (const ArtifactPart& part : artifact.parts) bytes += std::ssize(part.bytes);
  database.run(
      "INSERT INTO artifact(key, source_key, toolchain, architecture, label, seal, bytes, compile_us, created_at,"
      " used_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
      {rows.key, artifact.source_key, artifact.toolchain, artifact.architecture, artifact.label, rows.seal, bytes,
       artifact.compile_us, artifact.created_at, rows.used_at});
  const int64_t id = database.integer("SELECT id FROM artifact WHERE key = ?1", {rows.key});
  for (size_t i = 0; i < rows.parts.size(); ++i) {
    const PartRow& part = rows.parts[i];
    database.run("INSERT OR IGNORE INTO blob(sha, bytes) VALUES (?1, ?2)",
                 {part.sha, sqlite::Bytes{artifact.parts[i].bytes}});
    database.run("INSERT INTO part(artifact_id, name, blob_sha, details) VALUES (?1, ?2, ?3, ?4)",
                 {id, part.name, part.sha, part.details});
  }
}

}  // namespace harrier
