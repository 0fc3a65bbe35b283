// What tuning left in the store, as candidates to export.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/harrier_export.h"
#include "store/store.h"

namespace harrier {

/// Tunings that became candidates of a workload on an architecture.
struct TunedExport {
  std::string workload;
  std::string architecture;
  std::string device;             // on which they were measured
  int64_t lengths = 0;            // buckets of lengths that were tuned, or pinned
  int64_t candidates = 0;         // plans with schedules
  bool of_other_version = false;  // none of this version's kernels
};

/// Adds to each workload what was measured for its pattern, for those architectures whose GPUs it was measured on: of
/// one kind of GPU each (the one with most lengths, then the latest), of this version's kernels where there are any.
/// What is pinned stands alone at its lengths. Rows that cannot be read, or do not fit the shape, are passed over.
std::vector<TunedExport> add_tuned_candidates(Store& store, const std::vector<std::string>& architectures,
                                              std::vector<ExportWorkload>& workloads);

}  // namespace harrier
