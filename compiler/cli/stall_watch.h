// Notices that something does not come back.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

namespace harrier {

/// Calls `on_stall` with the name of what was begun and not ended within the limit: once, on a thread of its own.
class StallWatch {
 public:
  StallWatch(std::chrono::milliseconds limit, std::function<void(const std::string&)> on_stall);
  ~StallWatch() = default;
  StallWatch(const StallWatch&) = delete;
  StallWatch& operator=(const StallWatch&) = delete;

  void begin(const std::string& name);
  void end();

 private:
  void watch(const std::stop_token& stop);

  std::chrono::milliseconds limit_;
  std::function<void(const std::string&)> on_stall_;
  std::mutex mutex_;
  std::optional<std::chrono::steady_clock::time_point> begun_;
  std::string name_;
  std::jthread thread_;  // last, so that it ends first
};

}  // namespace harrier
