#include "store/lease.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

#include "store/sqlite.h"

namespace harrier {
namespace {

/// Processes have numbers within a namespace, and numbers are used again: namespace and starting time tell them apart.
std::string process_namespace() {
  std::array<char, 64> name{};
  const ssize_t length = readlink("/proc/self/ns/pid", name.data(), name.size());
  return length > 0 ? std::string(name.data(), static_cast<size_t>(length)) : "unknown";
}

/// Clock ticks from boot to the start of a process.
std::optional<std::string> start_of(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  // The second field is a name in parentheses, which may hold blanks and parentheses.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  constexpr int kStartField = 22;
  std::string field;
  for (int i = 3; i <= kStartField; ++i) {
    if (!(fields >> field)) return std::nullopt;
  }
  return field;
}

std::vector<std::string_view> split(std::string_view text, char mark) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(mark, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

constexpr int64_t kLongestLeaseMs = 600'000;

}  // namespace

std::string new_lease_owner() {
  static std::atomic<int64_t> calls{0};
  const int64_t pid = getpid();
  return fmt::format("{}/{}/{}/{}", process_namespace(), pid, start_of(pid).value_or("unknown"), ++calls);
}

bool has_ended(std::string_view owner) {
  const std::vector<std::string_view> parts = split(owner, '/');
  if (parts.size() != 4 || parts[0] == "unknown" || parts[2] == "unknown" || parts[0] != process_namespace())
    return false;
  int64_t pid = 0;
  const auto [end, error] = std::from_chars(parts[1].data(), parts[1].data() + parts[1].size(), pid);
  if (error != std::errc() || pid <= 0) return false;
  if (kill(static_cast<pid_t>(pid), 0) != 0) return errno == ESRCH;
  const std::optional<std::string> start = start_of(pid);
  return start && *start != parts[2];
}

LeaseResult take_lease(Store& store, std::string_view task, std::string_view owner, int64_t lease_ms) {
  bool is_mine = false;
  const bool is_told = store.write([&](sqlite::Database& database) {
    const int64_t now_ms = store.now_ms();
    is_mine = true;
    {
      sqlite::Rows rows = database.query("SELECT owner, expires_at_ms FROM lease WHERE task = ?1", {task});
      if (rows.next()) {
        const int64_t expires_at_ms = rows.integer(1);
        // One that ends in the far future was written by a clock that has been set back.
        const bool has_expired = expires_at_ms <= now_ms || expires_at_ms > now_ms + kLongestLeaseMs;
        is_mine = has_expired || has_ended(rows.text(0));
      }
    }
    if (!is_mine) return;
    database.run("INSERT OR REPLACE INTO lease(task, owner, expires_at_ms) VALUES (?1, ?2, ?3)",
                 {task, owner, now_ms + lease_ms});
  });
  if (!is_told) return LeaseResult::kNoStore;
  return is_mine ? LeaseResult::kMine : LeaseResult::kTaken;
}

void release_lease(Store& store, std::string_view task, std::string_view owner) {
  store.write([&](sqlite::Database& database) {
    database.run("DELETE FROM lease WHERE task = ?1 AND owner = ?2", {task, owner});
  });
}

}  // namespace harrier
