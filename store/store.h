// The cache: one SQLite file for a user and machine, holding machine code and what tuning found. Shared by threads and
// processes.
//
// A cache must never be why a kernel does not run. So whatever is wrong with the file (absent folder, full disk,
// damage, another version), finding misses, putting returns false, and one warning says why; nothing here throws but
// what says so. A damaged file is set aside and an empty one begun.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace harrier::sqlite {
class Database;
}

namespace harrier {

inline constexpr int64_t kDefaultStoreBytes = int64_t{2} << 30;

struct StoreOptions {
  std::string folder = {};  // empty: default_store_folder()
  bool read_only = false;
  int64_t size_limit_bytes = kDefaultStoreBytes;      // of machine code; what was used longest ago goes first
  int64_t patience_ms = 5000;                         // how long another process's write is waited for
  std::function<void(const std::string&)> warn = {};  // one line; may be called on any thread
  std::function<int64_t()> now_ms = {};               // since 1970; empty: the system's clock
};

enum class StoreState {
  kReadWrite,
  kReadOnly,  // finds what is there
  kAbsent,    // every find misses
};

/// Safe for several threads, and on both sides of a fork.
class Store {
 public:
  explicit Store(StoreOptions options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// Of the file, empty where there is none.
  std::string path() const;
  StoreState state() const;
  const StoreOptions& options() const;

  int64_t now_ms() const;

  /// Tells a warning that has not been told before.
  void warn_once(const std::string& warning);

  /// For functions of this folder. Runs `work` on the connection, in a transaction where it writes, and returns whether
  /// it was done. Failures of the database are told and survived; what else `work` throws, passes. `work` may run
  /// twice.
  bool read(const std::function<void(sqlite::Database&)>& work);
  bool write(const std::function<void(sqlite::Database&)>& work);

  /// The same for commands that must tell what is wrong: throw InvalidInput with the reason.
  void require_read(const std::function<void(sqlite::Database&)>& work);
  void require_write(const std::function<void(sqlite::Database&)>& work);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

using StoreHandle = std::shared_ptr<Store>;

/// Opens, or makes, the store. Never null: see Store::state.
StoreHandle open_store(StoreOptions options = {});

/// $HARRIER_CACHE_DIR, else $XDG_CACHE_HOME/harrier, else ~/.cache/harrier. Where that lies on a network file system,
/// whose locks cannot be trusted, and was not asked for by name: /var/tmp/harrier-UID, on this machine's disk.
std::string default_store_folder();

}  // namespace harrier
