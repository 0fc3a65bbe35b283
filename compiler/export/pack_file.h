// The pack format, written: one SQLite file that nobody changes afterwards.
//
//   manifest(text, sha256)           one row of JSON: workloads, their architectures, kernels and trees
//   image(sha256, bytes, facts)      machine code, each once, and what ptxas said of it, as JSON
#pragma once

#include "compiler/export/export_folder.h"
#include "compiler/export/exported_kernels.h"

namespace harrier {

inline constexpr int64_t kPackApplication = 0x48525250;  // "HRRP", SQLite's application_id
inline constexpr int64_t kPackVersion = 1;               // SQLite's user_version

/// What machine code is found by: everything that it was compiled from.
std::string source_digest(const CudaCompilation& compilation);

/// NAME.pack. The same export gives the same bytes (of one version of SQLite).
ExportedFile pack_file(const KernelExport& kernels, const ExportOptions& options);

}  // namespace harrier
