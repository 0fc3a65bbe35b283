// A folder that appears whole or not at all.
#pragma once

#include <string>
#include <vector>

namespace harrier {

/// A file of an export.
struct ExportedFile {
  std::string name;
  std::string bytes;
};

/// The manifest that every export has; its "files" name all others.
inline constexpr const char* kManifestName = "manifest.json";

/// Writes the files, kManifestName among them, beside the folder and then gives them its name in one step. A folder
/// that holds an earlier export and nothing else is replaced. Throws InvalidInput: another file in the folder, a path
/// that cannot be written, the system's reason.
void write_export_folder(const std::string& folder, const std::vector<ExportedFile>& files);

}  // namespace harrier
