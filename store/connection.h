// Opening the store's file, whatever its condition.
#pragma once

#include <memory>
#include <string>

#include "store/sqlite.h"
#include "store/store.h"

namespace harrier {

struct Connection {
  std::unique_ptr<sqlite::Database> database;  // null: absent
  StoreState state = StoreState::kAbsent;
  std::string warning = {};  // why not more, or what was done about damage; empty where all is well
  bool may_retry = false;    // the reason may pass
  uint64_t file_id = 0;      // tells the file from one that took its place
};

std::string store_file(const std::string& folder);

/// Makes file and schema where they are missing; brings older ones up; sets damaged ones aside and begins an empty one.
/// Safe beside other processes that do the same. Throws nothing of its own.
Connection connect(const StoreOptions& options);

/// For a file that turned out damaged while it was read: sets it aside unless another process has meanwhile replaced
/// it. `broken` is closed. Then connects anew.
Connection reconnect_after_damage(const StoreOptions& options, Connection broken, const std::string& what);

}  // namespace harrier
