#include "cli/stall_watch.h"

#include <algorithm>

namespace harrier {

StallWatch::StallWatch(std::chrono::milliseconds limit, std::function<void(const std::string&)> on_stall)
    : limit_(limit), on_stall_(std::move(on_stall)), thread_([this](const std::stop_token& stop) { watch(stop); }) {}

void StallWatch::begin(const std::string& name) {
  const std::lock_guard lock(mutex_);
  begun_ = std::chrono::steady_clock::now();
  name_ = name;
}

void StallWatch::end() {
  const std::lock_guard lock(mutex_);
  begun_.reset();
}

void StallWatch::watch(const std::stop_token& stop) {
  constexpr std::chrono::milliseconds kMostPause(100);
  while (!stop.stop_requested()) {
    std::this_thread::sleep_for(std::min(kMostPause, limit_));
    std::string stalled;
    {
      const std::lock_guard lock(mutex_);
      if (!begun_ || std::chrono::steady_clock::now() - *begun_ < limit_) continue;
      stalled = name_;
    }
    on_stall_(stalled);
    return;
  }
}

}  // namespace harrier
