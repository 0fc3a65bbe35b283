// The files of codegen/cuda/kernels, embedded: what generated sources include.
#pragma once

#include <span>
#include <string_view>

namespace harrier {

struct KernelFile {
  std::string_view name;  // as it is included: "codegen/cuda/kernels/params.cuh"
  std::string_view text;
};

/// All of them, in the order of their names.
std::span<const KernelFile> kernel_files();

}  // namespace harrier
