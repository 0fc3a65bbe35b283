// Work in other processes, as far as tests need them.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

namespace harrier::test {

/// Runs `work` in a child, which ends with its result; what it throws ends it with 99.
inline pid_t start_process(const std::function<int()>& work) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  int code = 99;
  try {
    code = work();
  } catch (const std::exception& error) {
    const std::string text = std::string(error.what()) + "\n";
    if (write(STDERR_FILENO, text.data(), text.size()) < 0) code = 98;
  }
  _exit(code);
}

/// The exit code, or minus the signal that ended it.
inline int wait_for(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return 97;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace harrier::test
