#include "autotune/compile_pool.h"

#include <algorithm>
#include <chrono>
#include <exception>

namespace harrier::autotune {

CompilePool::CompilePool(std::vector<size_t> candidates, Compile compile, int threads)
    : compile_(std::move(compile)), waiting_(std::move(candidates)), todo_(waiting_.rbegin(), waiting_.rend()) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  }
}

CompilePool::~CompilePool() {
  for (std::jthread& thread : threads_) thread.request_stop();
}

CompileVerdict CompilePool::compile_one(size_t candidate, const std::stop_token& stop) const {
  try {
    return compile_(candidate, stop);
  } catch (const std::exception& error) {
    return {.usable = false, .reason = error.what()};
  }
}

void CompilePool::work(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    size_t candidate = 0;
    {
      const std::lock_guard lock(mutex_);
      if (todo_.empty()) return;
      candidate = todo_.back();
      todo_.pop_back();
    }
    CompileVerdict verdict = compile_one(candidate, stop);
    {
      const std::lock_guard lock(mutex_);
      ready_[candidate] = std::move(verdict);
    }
    done_.notify_one();
  }
}

std::optional<CompilePool::Ready> CompilePool::next() {
  std::unique_lock lock(mutex_);
  if (waiting_.empty()) return std::nullopt;
  if (threads_.empty()) {
    const size_t candidate = waiting_.front();
    waiting_.erase(waiting_.begin());
    lock.unlock();
    return Ready{candidate, compile_one(candidate, {})};
  }
  constexpr auto kShortWhile = std::chrono::milliseconds(20);
  done_.wait_for(lock, kShortWhile, [&] { return !ready_.empty(); });
  // The first candidate is what all others are compared with.
  const auto is_ready = [&](size_t candidate) { return ready_.contains(candidate); };
  const auto found = std::ranges::find_if(waiting_, is_ready);
  if (found == waiting_.end()) return std::nullopt;
  Ready ready{*found, std::move(ready_[*found])};
  ready_.erase(*found);
  waiting_.erase(found);
  return ready;
}

size_t CompilePool::left() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

}  // namespace harrier::autotune
