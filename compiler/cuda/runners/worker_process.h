// Another program that answers lines with lines, and may die or hang.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace harrier {

/// Started with a socket as its standard input and output, which ends when this does, and in a process group of its
/// own: Ctrl-C is this process's to hear.
class WorkerProcess {
 public:
  /// Program and arguments. Throws ToolchainError where it cannot be started.
  explicit WorkerProcess(const std::vector<std::string>& command);
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  /// The next line it writes. Nothing where it dies first or says nothing for so long: then it is gone, killed if need
  /// be, and `fate` says how.
  std::optional<std::string> listen(std::chrono::milliseconds limit);

  /// Gives it a line and listens.
  std::optional<std::string> ask(const std::string& line, std::chrono::milliseconds limit);

  struct Fate {
    bool timed_out = false;
    std::string how;        // "died of signal 11 (Segmentation fault)", "ended with code 3", "did not answer for 10 s"
    bool is_stuck = false;  // it does not end even when it is killed: the driver holds it
  };
  const Fate& fate() const { return fate_; }

  void kill();

 private:
  void end(bool timed_out, std::chrono::milliseconds limit);

  pid_t process_ = -1;
  int socket_ = -1;
  std::string read_;  // and not handed out yet
  Fate fate_;
};

}  // namespace harrier
