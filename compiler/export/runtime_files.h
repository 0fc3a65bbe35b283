// The files of compiler/export/runtime, embedded: the C code that exports are made of.
#pragma once

#include <span>
#include <string_view>

namespace harrier {

struct RuntimeFile {
  std::string_view name;  // "harrier_kernels.c"
  std::string_view text;
};

/// All of them, in the order of their names.
std::span<const RuntimeFile> runtime_files();

}  // namespace harrier
