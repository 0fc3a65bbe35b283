// Which build of a shared library this is.
#pragma once

#include <string>

namespace harrier::cuda {

struct LibraryIdentity {
  std::string file;      // where it lies, links resolved
  std::string build_id;  // hexadecimal; of a library without one, its file_stamp
};

/// Of the loaded library that the address lies in.
LibraryIdentity identify_library(const void* address);

/// "SIZE TIME" of a file, which change when it is replaced; empty where there is none.
std::string file_stamp(const std::string& path);

}  // namespace harrier::cuda
