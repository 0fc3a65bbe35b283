// Measured plans for `harrier export --candidates`.
#pragma once

#include <string>
#include <vector>

#include "compiler/harrier_export.h"

namespace harrier {

/// Reads a JSON array of {"workload": NAME, "buckets": [[queries, keys, batch x heads], ...], "candidates":
/// [{"architecture": "sm_90a", "choice": TEXT, "us": [a number or null a bucket]}, ...]}, a choice being what
/// autotune::to_text writes. null: it did not run there. Throws InvalidInput: the file, what is wrong, what is
/// expected.
void add_candidates(const std::string& path, std::vector<ExportWorkload>& workloads);

}  // namespace harrier
