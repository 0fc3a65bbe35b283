// An export as C: the runtime's files made into one, with tables behind it.
#pragma once

#include <string>
#include <vector>

#include "compiler/export/export_folder.h"
#include "compiler/export/exported_kernels.h"

namespace harrier {

/// NAME.c, NAME.h, NAME-config.cmake and CMakeLists.txt. `name` is a C identifier. The same export gives the same
/// bytes.
std::vector<ExportedFile> c_files(const KernelExport& kernels, const std::string& name);

/// The part of NAME.c that is made for this export: checks of struct layouts, machine code, tables.
std::string c_tables(const KernelExport& kernels);

}  // namespace harrier
