#include "compiler/cuda/runners/worker_process.h"

#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <thread>

#include "ir/error.h"

extern char** environ;

namespace harrier {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPatienceAfterClosing(1000);

/// A process that was killed and still has not ended waits for the kernel's driver.
constexpr std::chrono::milliseconds kPatienceAfterKill(5000);

std::string how_it_ended(int status) {
  if (!WIFSIGNALED(status)) return fmt::format("ended with code {}", WEXITSTATUS(status));
  const int signal = WTERMSIG(status);
  const char* words = ::strsignal(signal);
  return fmt::format("died of signal {} ({})", signal, words == nullptr ? "unknown" : words);
}

/// Its status. Nothing where it lives on.
std::optional<int> wait_for(pid_t process, std::chrono::milliseconds patience) {
  constexpr std::chrono::milliseconds kPause(2);
  int status = 0;
  for (const auto deadline = Clock::now() + patience;;) {
    if (::waitpid(process, &status, WNOHANG) == process) return status;
    if (Clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(kPause);
  }
}

pid_t start(const std::vector<std::string>& command, int socket) {
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, socket, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, socket, STDOUT_FILENO);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  pid_t process = -1;
  const int failure = ::posix_spawn(&process, words.front().c_str(), &actions, &attributes, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (failure != 0) {
    throw ToolchainError(
        fmt::format("{} does not start: {}: is it there, and may it be run?", words.front(), std::strerror(failure)));
  }
  return process;
}

}  // namespace

WorkerProcess::WorkerProcess(const std::vector<std::string>& command) {
  HARRIER_CHECK(!command.empty(), "a worker is a program");
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw ToolchainError(fmt::format("no socket for {}: {}: raise the limit of open files (ulimit -n)", command.front(),
                                     std::strerror(errno)));
  }
  socket_ = ends[0];
  try {
    process_ = start(command, ends[1]);
  } catch (...) {
    ::close(ends[0]);
    ::close(ends[1]);
    throw;
  }
  ::close(ends[1]);
}

WorkerProcess::~WorkerProcess() {
  kill();
  ::close(socket_);
}

std::optional<std::string> WorkerProcess::ask(const std::string& line, std::chrono::milliseconds limit) {
  const std::string message = line + "\n";
  // What cannot be said is seen as an end when the answer is waited for.
  for (size_t sent = 0; sent < message.size() && process_ > 0;) {
    const ssize_t count = ::send(socket_, message.data() + sent, message.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    sent += static_cast<size_t>(count);
  }
  return listen(limit);
}

std::optional<std::string> WorkerProcess::listen(std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  while (process_ > 0) {
    if (const size_t end = read_.find('\n'); end != std::string::npos) {
      std::string line = read_.substr(0, end);
      read_.erase(0, end + 1);
      return line;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd waiting{.fd = socket_, .events = POLLIN, .revents = 0};
    const int ready = left < 0 ? 0 : ::poll(&waiting, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      end(true, limit);
      break;
    }
    std::array<char, 4096> bytes{};
    const ssize_t count = ::read(socket_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      end(false, limit);
      break;
    }
    read_.append(bytes.data(), static_cast<size_t>(count));
  }
  return std::nullopt;
}

void WorkerProcess::kill() {
  if (process_ > 0) end(true, {});
}

void WorkerProcess::end(bool timed_out, std::chrono::milliseconds limit) {
  std::optional<int> status = timed_out ? std::nullopt : wait_for(process_, kPatienceAfterClosing);
  // With all that it may have started.
  ::kill(-process_, SIGKILL);
  if (!status) status = wait_for(process_, kPatienceAfterKill);
  fate_.timed_out = timed_out;
  fate_.is_stuck = !status;
  fate_.how = timed_out ? fmt::format("did not answer for {} s", static_cast<double>(limit.count()) / 1e3)
              : status  ? how_it_ended(*status)
                        : "closed its end";
  process_ = -1;
}

}  // namespace harrier
