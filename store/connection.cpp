#include "store/connection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <thread>

#include "store/folder.h"
#include "store/migrate.h"

namespace harrier {
namespace {

/// flock on a file beside the store's: shared while it is opened, alone while it is made, migrated or set aside. What
/// is open already needs none: SQLite's own locks do the rest.
class FolderLock {
 public:
  FolderLock(const std::string& folder, bool is_exclusive, int64_t patience_ms) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
    file_ = open((folder + "/harrier.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (file_ < 0) {
      problem_ = fmt::format("harrier.lock cannot be made: {}", strerror(errno));
      return;
    }
    while (flock(file_, (is_exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
      if (std::chrono::steady_clock::now() > deadline) {
        problem_ = fmt::format("another process has held harrier.lock for {} ms", patience_ms);
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  ~FolderLock() {
    if (file_ >= 0) close(file_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  const std::string& problem() const { return problem_; }

 private:
  int file_ = -1;
  std::string problem_;
};

uint64_t file_id_of(const std::string& path) {
  struct stat facts{};
  return stat(path.c_str(), &facts) == 0 ? static_cast<uint64_t>(facts.st_ino) : 0;
}

/// Why the file must not be opened; empty where it may, or is not there.
std::string objection_to(const std::string& path) {
  struct stat facts{};
  if (lstat(path.c_str(), &facts) != 0) return {};
  if (!S_ISREG(facts.st_mode)) return fmt::format("the cache {} is no file: move it away", path);
  if (facts.st_uid != geteuid() || (facts.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fmt::format("the cache {} belongs to user {} and has mode {:o}, so others may plant code: delete it", path,
                       facts.st_uid, facts.st_mode & 0777);
  }
  return {};
}

Connection absent(std::string reason, bool may_retry = false) {
  return {.database = nullptr, .state = StoreState::kAbsent, .warning = std::move(reason), .may_retry = may_retry};
}

Connection failed(const sqlite::SqliteError& error, const std::string& path) {
  return absent(fmt::format("the cache {} cannot be opened and is not used: {}", path, error.what()),
                error.is_passing());
}

/// A header that no version of ours writes: bytes were changed.
bool is_foreign(sqlite::Database& database, int64_t version) {
  constexpr int64_t kFarFuture = 1000;
  if (version == 0) return database.integer("SELECT count(*) FROM sqlite_schema") > 0;
  return database.integer("PRAGMA application_id") != kStoreApplicationId || version < 0 || version > kFarFuture;
}

void set_up(sqlite::Database& database) {
  database.execute(
      "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON;"
      "PRAGMA journal_size_limit = 4194304;");
}

/// The whole of opening under one lock. Nothing: it must be done alone. Throws SqliteError.
std::optional<Connection> try_to_open(const StoreOptions& options, bool is_alone) {
  const std::string path = store_file(options.folder);
  auto database = std::make_unique<sqlite::Database>(path, sqlite::OpenMode::kReadWrite, options.patience_ms);
  const int64_t version = database->integer("PRAGMA user_version");
  if (is_foreign(*database, version)) {
    if (!is_alone) return std::nullopt;
    throw sqlite::SqliteError(26, "it is no database of Harrier's");  // SQLITE_NOTADB
  }
  if (version > kStoreVersion) {
    return absent(
        fmt::format("the cache {} is of version {}, newer than this Harrier's {}, and is not used: update, "
                    "or name another folder with HARRIER_CACHE_DIR",
                    path, version, kStoreVersion));
  }
  if (version < kStoreVersion) {
    if (!is_alone) return std::nullopt;
    // Only an empty file takes the first.
    database->execute("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL");
    migrate(*database, store_migrations());
  } else if (database->text("PRAGMA journal_mode") != "wal") {
    if (!is_alone) return std::nullopt;
    database->execute("PRAGMA journal_mode = WAL");
  }
  set_up(*database);
  // With this the write-ahead log is open too, so that nobody renames it in between.
  database->integer("SELECT count(*) FROM sqlite_schema");
  return Connection{.database = std::move(database), .state = StoreState::kReadWrite, .file_id = file_id_of(path)};
}

/// One file set aside is kept, for whoever wants to know; a second replaces it.
void set_aside(const std::string& path) {
  for (const char* suffix : {"-wal", ""}) {
    std::rename((path + suffix).c_str(), (path + ".damaged" + suffix).c_str());
  }
  std::remove((path + "-shm").c_str());
}

std::string damage_warning(const std::string& path, const std::string& what) {
  return fmt::format("the cache {} was damaged ({}): it is now {}.damaged, and a new one was begun", path, what, path);
}

Connection connect_for_writing(const StoreOptions& options, bool is_alone, std::string warning) {
  const std::string path = store_file(options.folder);
  for (int attempt = 0; attempt < 3; ++attempt) {
    try {
      const FolderLock lock(options.folder, is_alone, options.patience_ms);
      if (!lock.problem().empty()) {
        return absent(fmt::format("the cache {} is not used: {}", path, lock.problem()), true);
      }
      try {
        if (std::optional<Connection> connection = try_to_open(options, is_alone)) {
          if (connection->warning.empty()) connection->warning = warning;
          return std::move(*connection);
        }
      } catch (const sqlite::SqliteError& error) {
        if (!error.is_damage()) return failed(error, path);
        if (is_alone) {
          set_aside(path);
          warning = damage_warning(path, error.what());
        }
      }
      is_alone = true;
    } catch (const std::exception& error) {
      return absent(fmt::format("the cache {} is not used: {}", path, error.what()));
    }
  }
  return absent(fmt::format("the cache {} is damaged and could not be replaced: delete it", path));
}

Connection connect_for_reading(const StoreOptions& options, std::string reason) {
  const std::string path = store_file(options.folder);
  if (access(path.c_str(), F_OK) != 0) {
    return absent(reason.empty() ? fmt::format("there is no cache {} yet: compiling a kernel for a GPU makes it", path)
                                 : std::move(reason));
  }
  // Beside writers where their log lies there; where it does not, or cannot be shared, as a file that nobody changes.
  std::string problem;
  const bool is_shared = access((path + "-wal").c_str(), F_OK) == 0;
  for (const bool immutable : {false, true}) {
    if (!immutable && !is_shared) continue;
    try {
      auto database = std::make_unique<sqlite::Database>(
          path, immutable ? sqlite::OpenMode::kImmutable : sqlite::OpenMode::kReadOnly, options.patience_ms);
      const int64_t version = database->integer("PRAGMA user_version");
      if (version != kStoreVersion || is_foreign(*database, version)) {
        return absent(fmt::format("the cache {} is of version {}, not {}, and cannot be written: it is not used", path,
                                  version, kStoreVersion));
      }
      database->execute("PRAGMA cell_size_check = ON");
      return {.database = std::move(database),
              .state = StoreState::kReadOnly,
              .warning = std::move(reason),
              .file_id = file_id_of(path)};
    } catch (const sqlite::SqliteError& error) {
      problem = error.what();
    }
  }
  return absent(fmt::format("the cache {} cannot be read and is not used: {}", path, problem));
}

}  // namespace

std::string store_file(const std::string& folder) { return folder + "/harrier.db"; }

Connection connect(const StoreOptions& options) {
  const FolderFinding folder = prepare_folder(options.folder, !options.read_only);
  if (folder.use == FolderUse::kRefused) return absent(folder.reason);
  if (std::string objection = objection_to(store_file(options.folder)); !objection.empty()) {
    return absent(std::move(objection));
  }
  if (options.read_only || folder.use == FolderUse::kReadOnly) return connect_for_reading(options, folder.reason);
  return connect_for_writing(options, false, {});
}

Connection reconnect_after_damage(const StoreOptions& options, Connection broken, const std::string& what) {
  const std::string path = store_file(options.folder);
  if (broken.state != StoreState::kReadWrite) {
    return absent(fmt::format("the cache {} is damaged ({}) and cannot be replaced: it is not used", path, what));
  }
  bool is_ours = false;
  {
    const FolderLock lock(options.folder, true, options.patience_ms);
    if (!lock.problem().empty()) {
      return absent(fmt::format("the cache {} is damaged ({}) and not used: {}", path, what, lock.problem()), true);
    }
    // The file is open until here, so that its number cannot have been given to another.
    is_ours = file_id_of(path) == broken.file_id;
    broken.database.reset();
    if (is_ours) set_aside(path);
  }
  return connect_for_writing(options, true, is_ours ? damage_warning(path, what) : std::string());
}

}  // namespace harrier
