#include "compiler/export/export_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "ir/error.h"

namespace harrier {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const char* what, int reason) {
  throw InvalidInput(fmt::format("{}: {} ({}): name a folder in a place that may be written", path.string(), what,
                                 std::strerror(reason)));
}

/// What the manifest in the folder names; empty where there is none, or one that is not ours.
std::set<std::string> files_of_export(const fs::path& folder) {
  std::ifstream file(folder / kManifestName);
  const nlohmann::json manifest = nlohmann::json::parse(file, nullptr, false);
  std::set<std::string> names;
  if (!manifest.is_object() || !manifest.contains("harrier_export")) return names;
  for (const auto& name : manifest.value("files", nlohmann::json::array())) {
    if (name.is_string()) names.insert(name.get<std::string>());
  }
  names.insert(kManifestName);
  return names;
}

/// Refuses a folder that holds anything but an earlier export.
void check_replaceable(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw InvalidInput(fmt::format("{} is a file, an export is a folder: name another", folder.string()));
  }
  if (fs::equivalent(folder, fs::current_path(error), error)) {
    throw InvalidInput(
        fmt::format("{} is the current folder, which cannot be replaced: name one in it", folder.string()));
  }
  const std::set<std::string> known = files_of_export(folder);
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (known.contains(name)) continue;
    throw InvalidInput(fmt::format("{} holds {}, which is no file of an earlier export: name an empty or a new folder",
                                   folder.string(), name));
  }
  if (error) fail(folder, "cannot be read", error.value());
}

/// A folder of its own that goes away with this unless it was given its name.
class FolderBeside {
 public:
  explicit FolderBeside(const fs::path& folder) {
    for (int number = 0; number < 1000; ++number) {
      path_ = folder.parent_path() / fmt::format(".{}.{}-{}", folder.filename().string(), ::getpid(), number);
      if (::mkdir(path_.c_str(), 0777) == 0) return;
      if (errno != EEXIST) break;
    }
    const int reason = errno;
    const fs::path wanted = path_;
    path_.clear();
    fail(wanted, "cannot be made", reason);
  }
  ~FolderBeside() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  FolderBeside(const FolderBeside&) = delete;
  FolderBeside& operator=(const FolderBeside&) = delete;

  void write(const ExportedFile& file) const {
    const fs::path path = path_ / file.name;
    std::ofstream out(path, std::ios::binary);
    out.write(file.bytes.data(), static_cast<std::streamsize>(file.bytes.size()));
    out.close();
    if (!out) fail(path, "cannot be written", errno);
  }

  /// Afterwards what lay at `folder` before lies here, and is removed.
  void exchange_with(const fs::path& folder) {
    if (!fs::exists(folder)) {
      if (::rename(path_.c_str(), folder.c_str()) != 0) fail(folder, "cannot be given its name", errno);
      path_.clear();
      return;
    }
    if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) return;
    if (errno != EINVAL && errno != ENOSYS) fail(folder, "cannot be replaced", errno);
    // Not every file system exchanges: then the old one steps aside first.
    const fs::path old = path_.string() + ".old";
    if (::rename(folder.c_str(), old.c_str()) != 0) fail(folder, "cannot be replaced", errno);
    if (::rename(path_.c_str(), folder.c_str()) != 0) {
      const int reason = errno;
      ::rename(old.c_str(), folder.c_str());
      fail(folder, "cannot be replaced", reason);
    }
    path_ = old;
  }

 private:
  fs::path path_;
};

}  // namespace

void write_export_folder(const std::string& folder, const std::vector<ExportedFile>& files) {
  if (folder.empty()) throw InvalidInput("the folder of the export has no name: -o kernels, say");
  std::error_code error;
  fs::path place = fs::weakly_canonical(fs::absolute(folder), error);
  if (error) fail(folder, "cannot be found", error.value());
  if (!place.has_filename()) place = place.parent_path();
  const bool replaces = fs::exists(place, error);
  if (replaces) check_replaceable(place);
  fs::create_directories(place.parent_path(), error);
  if (error) fail(place.parent_path(), "cannot be made", error.value());
  FolderBeside beside(place);
  for (const ExportedFile& file : files) beside.write(file);
  beside.exchange_with(place);
}

}  // namespace harrier
