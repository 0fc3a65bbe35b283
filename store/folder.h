// The folder that a store lies in: code is loaded from it, so nobody else may write there.
#pragma once

#include <cstdint>
#include <string>

namespace harrier {

/// Whether statfs's f_type is that of a file system on other machines, where SQLite's locks and shared memory cannot be
/// trusted: NFS, SMB, Lustre, GPFS, Ceph, AFS, 9p, FUSE and the like.
bool is_network_file_system(int64_t type);

enum class FolderUse {
  kReadWrite,
  kReadOnly,  // it cannot be written, or must not be
  kRefused,
};

struct FolderFinding {
  FolderUse use = FolderUse::kRefused;
  std::string reason;  // one line with the remedy; empty for kReadWrite
};

/// Makes the folder (mode 0700, parents as the umask says) where it is missing and may be made. Refused: what is no
/// folder or a link to one, belongs to somebody else, or can be written by others.
FolderFinding prepare_folder(const std::string& folder, bool may_make);

}  // namespace harrier
