// Machine code from the store, or from NVRTC and then into the store.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "compiler/cuda/cuda_code.h"
#include "compiler/harrier_cuda.h"

namespace harrier {

/// Binaries, and where they were found.
struct FoundBinaries {
  CudaBinaries binaries;
  std::string key;          // of the artifact; empty where there is no store
  bool was_cached = false;  // compiled earlier, or by another process
};

/// From options.store where it has them, without loading NVRTC; else compiled, once however many processes ask. Where
/// no NVRTC is to be had, what any made will do. Throws ToolchainError; of frozen options with the key and the command
/// that makes it.
FoundBinaries find_or_compile(const cuda::LazyNvrtc& nvrtc, const CudaCompilation& compilation,
                              const CudaCompileOptions& options, const std::string& silicon_key);

/// find_or_compile, then `load`. What the store had and the driver refuses (DeviceFailure::kBadImage) is put into
/// quarantine for this kind of GPU, compiled anew, and replaced once that loads.
std::shared_ptr<const LoadedCode> load_cached(
    const cuda::LazyNvrtc& nvrtc, const CudaCompilation& compilation, const CudaCompileOptions& options,
    const std::string& silicon_key, const std::function<std::shared_ptr<const LoadedCode>(FoundBinaries)>& load);

/// options.frozen, or HARRIER_FROZEN=1 in the environment.
bool is_frozen(const CudaCompileOptions& options);

}  // namespace harrier
