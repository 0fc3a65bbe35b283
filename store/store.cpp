#include "store/store.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <mutex>
#include <set>
#include <vector>

#include "ir/error.h"
#include "store/connection.h"
#include "store/folder.h"
#include "store/fork_guard.h"

namespace harrier {
namespace {

using Work = std::function<void(sqlite::Database&)>;
using Clock = std::chrono::steady_clock;

/// How long a reason that may pass is believed.
constexpr std::chrono::seconds kRetryAfter{1};

/// Files that were damaged again and again point to a disk that is: this store then steps aside.
constexpr int kMostHealings = 3;

}  // namespace

struct Store::State {
  StoreOptions options;
  mutable std::mutex mutex;
  Connection connection;
  bool is_connected = false;  // or has been found absent
  Clock::time_point retry_at = {};
  pid_t pid = getpid();
  int healings = 0;
  std::set<std::string> warned;
  std::shared_ptr<const void> guard;

  void connect_when_due(std::vector<std::string>& warnings) {
    if (is_connected && pid != getpid()) {
      // A fork that took no steps: the parent's locks are not ours, see fork_guard.h.
      if (connection.database) connection.database->abandon();
      connection = {};
      pid = getpid();
      return;
    }
    if (is_connected && !(connection.may_retry && Clock::now() >= retry_at)) return;
    adopt(connect(options), warnings);
  }

  void adopt(Connection next, std::vector<std::string>& warnings) {
    connection = std::move(next);
    is_connected = true;
    pid = getpid();
    retry_at = Clock::now() + kRetryAfter;
    warn_once(connection.warning, warnings);
  }

  void warn_once(const std::string& warning, std::vector<std::string>& warnings) {
    if (!warning.empty() && warned.insert(warning).second) warnings.push_back(warning);
  }

  void heal(const sqlite::SqliteError& error, std::vector<std::string>& warnings) {
    if (++healings > kMostHealings) {
      const std::string warning = fmt::format("the cache {} was damaged {} times and is not used any more: {}",
                                              store_file(options.folder), healings, error.what());
      adopt({.database = nullptr, .state = StoreState::kAbsent, .warning = warning}, warnings);
      return;
    }
    adopt(reconnect_after_damage(options, std::move(connection), error.what()), warnings);
  }

  /// Empty where it was done, else why not.
  std::string attempt(const Work& work, bool writes, std::vector<std::string>& warnings) {
    const std::lock_guard lock(mutex);
    std::string reason;
    for (int i = 0; i < 2; ++i) {
      connect_when_due(warnings);
      if (!connection.database) {
        return connection.warning.empty() ? "the cache is not used in this process" : connection.warning;
      }
      if (writes && connection.state != StoreState::kReadWrite) {
        return connection.warning.empty() ? "the cache is only read" : connection.warning;
      }
      try {
        run(work, writes);
        return {};
      } catch (const sqlite::SqliteError& error) {
        reason = fmt::format("the cache {} cannot be {}: {}", store_file(options.folder), writes ? "written" : "read",
                             error.what());
        if (!error.is_damage()) {
          warn_once(reason, warnings);
          return reason;
        }
        heal(error, warnings);
      }
    }
    return reason;
  }

  void run(const Work& work, bool writes) const {
    sqlite::Database& database = *connection.database;
    if (!writes) {
      work(database);
      return;
    }
    sqlite::Transaction transaction(database);
    work(database);
    transaction.commit();
  }

  /// Warnings are told without the lock: who hears them may use the store.
  std::string attempt_and_warn(const Work& work, bool writes) {
    std::vector<std::string> warnings;
    std::string reason = attempt(work, writes, warnings);
    if (options.warn) {
      for (const std::string& warning : warnings) options.warn(warning);
    }
    return reason;
  }
};

Store::Store(StoreOptions options) : state_(std::make_unique<State>()) {
  if (options.folder.empty()) options.folder = default_store_folder();
  while (options.folder.size() > 1 && options.folder.ends_with('/')) options.folder.pop_back();
  state_->options = std::move(options);
  State* state = state_.get();
  state_->guard = guard_forks({.before =
                                   [state] {
                                     state->mutex.lock();
                                     if (!state->connection.database) return;
                                     state->connection.database.reset();
                                     state->is_connected = false;
                                   },
                               .after = [state] { state->mutex.unlock(); }});
  state_->attempt_and_warn([](sqlite::Database&) {}, false);
}

Store::~Store() { state_->guard.reset(); }

std::string Store::path() const {
  const std::lock_guard lock(state_->mutex);
  return store_file(state_->options.folder);
}

StoreState Store::state() const {
  const std::lock_guard lock(state_->mutex);
  return state_->connection.state;
}

const StoreOptions& Store::options() const { return state_->options; }

int64_t Store::now_ms() const {
  if (state_->options.now_ms) return state_->options.now_ms();
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void Store::warn_once(const std::string& warning) {
  std::vector<std::string> warnings;
  {
    const std::lock_guard lock(state_->mutex);
    state_->warn_once(warning, warnings);
  }
  if (state_->options.warn && !warnings.empty()) state_->options.warn(warning);
}

bool Store::read(const Work& work) { return state_->attempt_and_warn(work, false).empty(); }
bool Store::write(const Work& work) { return state_->attempt_and_warn(work, true).empty(); }

void Store::require_read(const Work& work) {
  if (const std::string reason = state_->attempt_and_warn(work, false); !reason.empty()) throw InvalidInput(reason);
}

void Store::require_write(const Work& work) {
  if (const std::string reason = state_->attempt_and_warn(work, true); !reason.empty()) throw InvalidInput(reason);
}

StoreHandle open_store(StoreOptions options) { return std::make_shared<Store>(std::move(options)); }

}  // namespace harrier
