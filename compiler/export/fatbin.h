// An export as fat binaries, which CUDA's own tools and cuModuleLoadFatBinary take.
#pragma once

#include <vector>

#include "compiler/export/export_folder.h"
#include "compiler/export/exported_kernels.h"

namespace harrier {

/// For each workload NAME-WORKLOAD-I.fatbin and NAME-WORKLOAD-I-builder.fatbin: the I-th kernel of every architecture
/// that has so many, I as the manifest counts. Made by the toolkit's fatbinary, looked for in $HARRIER_FATBINARY,
/// $CUDA_HOME/bin, /usr/local/cuda/bin and $PATH. Throws ToolchainError: none there, or what it said.
std::vector<ExportedFile> fatbin_files(const KernelExport& kernels, const std::string& name);

}  // namespace harrier
