// Makes each value once, however many threads ask for it, and remembers it by key.
#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace harrier {

/// An order of keys that are long and much alike: most differ in length.
struct ShorterFirst {
  bool operator()(const std::string& a, const std::string& b) const {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  }
};

template <typename Value>
class SingleFlight {
 public:
  /// The value of `key`; the first to ask calls make(), others wait for it. What make() throws reaches all who wait and
  /// is not remembered: whoever comes later tries again.
  template <typename Make>
  std::shared_ptr<const Value> get(const std::string& key, Make&& make) {
    std::promise<std::shared_ptr<const Value>> promise;
    std::shared_future<std::shared_ptr<const Value>> value;
    bool is_first = false;
    {
      const std::lock_guard lock(mutex_);
      const auto [entry, inserted] = values_.try_emplace(key);
      if (inserted) entry->second = promise.get_future().share();
      value = entry->second;
      is_first = inserted;
    }
    if (is_first) {
      try {
        promise.set_value(make());
        ++made_;
      } catch (...) {
        promise.set_exception(std::current_exception());
        const std::lock_guard lock(mutex_);
        values_.erase(key);
      }
    }
    return value.get();
  }

  /// Values made so far.
  int64_t made() const { return made_; }

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_future<std::shared_ptr<const Value>>, ShorterFirst> values_;
  std::atomic<int64_t> made_{0};
};

}  // namespace harrier
