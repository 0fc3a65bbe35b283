// Artifacts as their rows say. Internal to this folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/artifacts.h"
#include "store/sqlite.h"

namespace harrier {

/// What a part's row says.
struct PartRow {
  std::string name;
  std::string sha;  // of the bytes
  std::string details;
};

struct ArtifactRows {
  int64_t id = 0;
  std::string key;
  std::string seal = {};
  int64_t used_at = 0;
  Artifact artifact = {};
  std::vector<PartRow> parts = {};          // by name
  std::vector<std::string> bad_blobs = {};  // hashes that their bytes do not have
  bool is_sound = true;                     // every hash is right
};

/// SHA-256 of what rows say, which an artifact carries: so changed rows are found out.
std::string seal_of(std::string_view key, std::string_view architecture, const std::vector<PartRow>& parts);

/// Rows of a new artifact, with the hashes of its parts.
ArtifactRows rows_of(Artifact artifact);

/// `schema` is main, or the name of an attached store.
std::optional<ArtifactRows> read_artifact(sqlite::Database& database, std::string_view schema, std::string_view key);

/// Writes rows whose key is not there.
void insert_artifact(sqlite::Database& database, const ArtifactRows& rows);

}  // namespace harrier
