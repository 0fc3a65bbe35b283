// What an export holds, as JSON.
#pragma once

#include <string>
#include <vector>

#include "compiler/export/export_folder.h"
#include "compiler/export/exported_kernels.h"

namespace harrier {

/// One line of JSON with sorted keys and no blanks: the export's format and files, and for each workload its pattern
/// and for each architecture its kernels (plan, schedule, SHA-256 of the machine code) and the tree that chooses.
std::string manifest_text(const KernelExport& kernels, const ExportOptions& options,
                          const std::vector<ExportedFile>& files);

}  // namespace harrier
