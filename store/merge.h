// Bringing together what several machines know.
#pragma once

#include <cstdint>
#include <string>

#include "store/store.h"

namespace harrier {

struct MergeReport {
  int64_t artifacts = 0;     // new here
  int64_t measurements = 0;  // new, or newer than those here
  int64_t decisions = 0;
  int64_t damaged = 0;  // artifacts of the other file whose hashes are wrong: left out
};

/// Adds what another store's file holds; that file is not changed. Merging the same file again changes nothing, and
/// stores that were merged in any order know the same. Where both have a row: the later measurement, the pinned or else
/// the later decision. Leases and toolchains are of one machine and stay there. All or nothing. Throws InvalidInput for
/// what is no store of this version, and where this one cannot be written.
MergeReport merge_into(Store& store, const std::string& other_path);

}  // namespace harrier
