// Compiles codes on several threads, in the order in which they are wanted.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "autotune/search.h"

namespace harrier::autotune {

class CompilePool {
 public:
  using Compile = std::function<CompileVerdict(size_t candidate, std::stop_token stop)>;

  /// `candidates`: one of each code, the first first. With 0 threads each is compiled when it is asked for.
  CompilePool(std::vector<size_t> candidates, Compile compile, int threads);
  /// Asks what is being compiled to stop, and waits for it.
  ~CompilePool();
  CompilePool(const CompilePool&) = delete;
  CompilePool& operator=(const CompilePool&) = delete;

  struct Ready {
    size_t candidate = 0;
    CompileVerdict verdict;
  };
  /// The next that is ready, in the given order as far as it goes. Nothing when none is ready after a short while, or
  /// when all were handed out.
  std::optional<Ready> next();
  /// Candidates that were not handed out yet.
  size_t left() const;

 private:
  CompileVerdict compile_one(size_t candidate, const std::stop_token& stop) const;
  void work(const std::stop_token& stop);

  Compile compile_;
  mutable std::mutex mutex_;
  std::condition_variable done_;
  std::vector<size_t> waiting_;  // not handed out, in order
  std::vector<size_t> todo_;     // not begun, the first last
  std::map<size_t, CompileVerdict> ready_;
  std::vector<std::jthread> threads_;  // last, so that they end first
};

}  // namespace harrier::autotune
