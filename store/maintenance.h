// Looking into a store and caring for it: what `harrier cache` does. Throws InvalidInput where the store cannot be read
// or written.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/store.h"

namespace harrier {

struct StoreSummary {
  int64_t artifacts = 0;
  int64_t artifact_bytes = 0;
  int64_t file_bytes = 0;
  int64_t devices = 0;
  int64_t workloads = 0;
  int64_t measurements = 0;
  int64_t decisions = 0;
  int64_t quarantined = 0;
};
StoreSummary summarize(Store& store);

struct ArtifactSummary {
  std::string key;
  std::string source_key;
  std::string toolchain;
  std::string architecture;
  std::string label;
  int64_t bytes = 0;
  double compile_us = 0;
  int64_t created_at = 0;
  int64_t used_at = 0;
  bool is_decided = false;  // a decision keeps it
};

/// Last used first. `prefix` of the key; empty for all.
std::vector<ArtifactSummary> list_artifacts(Store& store, const std::string& prefix = {});

struct VerifyReport {
  int64_t artifacts = 0;
  int64_t blobs = 0;
  std::vector<std::string> problems;  // one line each; empty: clean
};

/// SQLite's own checks, foreign keys, and every hash. Changes nothing.
VerifyReport verify_store(Store& store);

struct GarbageReport {
  int64_t artifacts = 0;  // deleted
  int64_t blobs = 0;
  int64_t bytes_before = 0;  // of the file
  int64_t bytes_after = 0;
};

/// Deletes what passes the limit, blobs that nothing holds, leases and quarantines that have ended, and gives the room
/// back.
GarbageReport collect_garbage(Store& store, int64_t limit_bytes);

/// Writes everything that another machine can use into a file that merge_into takes, whole or not at all.
void export_store(Store& store, const std::string& path);

}  // namespace harrier
