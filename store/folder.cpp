#include "store/folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "store/store.h"

namespace harrier {
namespace {

constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string home() {
  if (const std::string named = environment("HOME"); !named.empty()) return named;
  // No $HOME, as services are started: the user's entry says.
  std::vector<char> text(16384);
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(geteuid(), &entry, text.data(), text.size(), &found) != 0 || found == nullptr) return {};
  return found->pw_dir;
}

/// Of the folder, or of the nearest one above it that exists.
bool lies_on_network(std::filesystem::path folder) {
  struct statfs facts{};
  while (statfs(folder.c_str(), &facts) != 0) {
    if (folder == folder.parent_path()) return false;
    folder = folder.parent_path();
  }
  return is_network_file_system(static_cast<int64_t>(facts.f_type));
}

std::string node_local_folder() { return fmt::format("/var/tmp/harrier-{}", geteuid()); }

FolderFinding refuse(const std::string& folder, const std::string& why) {
  return {.use = FolderUse::kRefused, .reason = fmt::format("the cache folder {} {}", folder, why)};
}

}  // namespace

bool is_network_file_system(int64_t type) {
  constexpr std::array<uint32_t, 17> kTypes = {
      0x6969,      // NFS
      0x517B,      // SMB
      0xFF534D42,  // CIFS
      0xFE534D42,  // SMB2
      0x0BD00BD0,  // Lustre
      0x47504653,  // GPFS
      0x00C36400,  // Ceph
      0x5346414F,  // AFS
      0x6B414653,  // kAFS
      0x73757245,  // Coda
      0x01021997,  // 9p
      0x65735546,  // FUSE: sshfs, GlusterFS, object stores
      0x19830326,  // BeeGFS
      0xAAD7AAEA,  // Panasas
      0x7461636F,  // OCFS2
      0x01161970,  // GFS2
      0x786F4256,  // folders shared with a virtual machine
  };
  // f_type is signed on some machines and not on others.
  return std::ranges::find(kTypes, static_cast<uint32_t>(type)) != kTypes.end();
}

std::string default_store_folder() {
  if (const std::string named = environment("HARRIER_CACHE_DIR"); !named.empty()) return named;
  std::string parent = environment("XDG_CACHE_HOME");
  if (!parent.starts_with('/')) {
    const std::string at_home = home();
    if (at_home.empty()) return node_local_folder();
    parent = at_home + "/.cache";
  }
  const std::string folder = parent + "/harrier";
  return lies_on_network(folder) ? node_local_folder() : folder;
}

FolderFinding prepare_folder(const std::string& folder, bool may_make) {
  struct stat facts{};
  if (lstat(folder.c_str(), &facts) != 0 && errno == ENOENT && may_make) {
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), ignored);
    if (mkdir(folder.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
      return refuse(folder, fmt::format("cannot be made: {}: name another with HARRIER_CACHE_DIR", strerror(errno)));
    }
  }
  if (lstat(folder.c_str(), &facts) != 0) {
    return refuse(folder, fmt::format("cannot be opened: {}: name another with HARRIER_CACHE_DIR", strerror(errno)));
  }
  if (S_ISLNK(facts.st_mode)) {
    return refuse(folder, "is a symbolic link: name what it leads to with HARRIER_CACHE_DIR");
  }
  if (!S_ISDIR(facts.st_mode)) return refuse(folder, "is no folder: name another with HARRIER_CACHE_DIR");
  if (facts.st_uid != geteuid()) {
    return refuse(folder, fmt::format("belongs to user {}, not to {}: name another with HARRIER_CACHE_DIR",
                                      facts.st_uid, geteuid()));
  }
  if ((facts.st_mode & kWritableByOthers) != 0) {
    return refuse(folder, fmt::format("can be written by others (mode {:o}), who could plant code: chmod 700 {}",
                                      facts.st_mode & 0777, folder));
  }
  if (lies_on_network(folder)) {
    return {.use = FolderUse::kReadOnly,
            .reason = fmt::format("the cache folder {} lies on a network file system and is only read: name a local "
                                  "one with HARRIER_CACHE_DIR",
                                  folder)};
  }
  // As the user that runs this, not the one who started it.
  if (faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
    return {
        .use = FolderUse::kReadOnly,
        .reason = fmt::format("the cache folder {} cannot be written and is only read: {}", folder, strerror(errno))};
  }
  return {.use = FolderUse::kReadWrite, .reason = {}};
}

}  // namespace harrier
