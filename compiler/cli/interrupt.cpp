#include "cli/interrupt.h"

#include <atomic>
#include <chrono>

namespace harrier {
namespace {

// A handler has no other way to tell anybody anything.
std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may touch nothing that locks");

void on_interrupt(int) { interrupted = true; }

}  // namespace

InterruptWatch::InterruptWatch() {
  interrupted = false;
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before_);
  watcher_ = std::jthread([this](const std::stop_token& end) {
    constexpr auto kPause = std::chrono::milliseconds(20);
    while (!end.stop_requested() && !interrupted) std::this_thread::sleep_for(kPause);
    if (interrupted) source_.request_stop();
  });
}

InterruptWatch::~InterruptWatch() { sigaction(SIGINT, &before_, nullptr); }

}  // namespace harrier
