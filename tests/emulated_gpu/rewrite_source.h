// CUDA source as the host's compiler takes it: what macros cannot do.
#pragma once

#include <string>

namespace harrier::emulated {

/// Dynamic shared memory (`extern __shared__ ... name[];`) becomes a pointer to the CTA's. Lines keep their numbers.
std::string rewrite_shared_memory(const std::string& source);

/// For each `extern "C" __global__` kernel: an entry that takes arguments as cuLaunchKernel does, and its facts. To be
/// put behind the source.
std::string launchers(const std::string& source);

}  // namespace harrier::emulated
