// What machine code is remembered by.
#pragma once

#include <optional>
#include <string>

#include "compiler/cuda/cuda_pipeline.h"
#include "runtime/cuda/nvrtc.h"
#include "store/store.h"

namespace harrier {

/// SHA-256 of everything that is compiled, and for what: sources, the files that they include, architecture, options,
/// and how the host talks to the code. Not of paths, driver, GPU or NVRTC.
std::string artifact_source_key(const CudaCompilation& compilation);

/// "NVRTC 13.0 65be0db3...": what may make other code of the same source.
std::string toolchain_name(const cuda::Nvrtc& nvrtc);

/// The same without loading NVRTC, where the store knows what the search for it ended at and that file is as it was.
std::optional<std::string> known_toolchain(Store& store, const cuda::LazyNvrtc& nvrtc);

/// Loads NVRTC and lets the store know it. Throws ToolchainError.
std::string learn_toolchain(Store& store, const cuda::LazyNvrtc& nvrtc);

}  // namespace harrier
