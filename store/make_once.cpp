#include "store/make_once.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>
#include <thread>

#include "store/lease.h"

namespace harrier {
namespace {

using std::chrono::milliseconds;

/// Given back at the end, also when making fails.
class HeldLease {
 public:
  HeldLease(Store& store, std::string_view task, std::string owner)
      : store_(store), task_(task), owner_(std::move(owner)) {}
  ~HeldLease() { give_back(); }
  HeldLease(const HeldLease&) = delete;
  HeldLease& operator=(const HeldLease&) = delete;

 private:
  /// Where it fails, for want of memory, say, the lease runs out by itself.
  bool give_back() noexcept {
    try {
      release_lease(store_, task_, owner_);
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }

  Store& store_;
  std::string task_;
  std::string owner_;
};

MadeArtifact make_and_put(Store& store, const std::function<Artifact()>& make) {
  MadeArtifact made{.artifact = make()};
  put_artifact(store, made.artifact);
  return made;
}

}  // namespace

MadeArtifact make_once(Store& store, std::string_view key, const std::function<Artifact()>& make,
                       const MakeOnceOptions& options) {
  constexpr milliseconds kLongestPause{25};
  milliseconds pause{1};
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(options.patience_ms);
  while (true) {
    if (std::optional<Artifact> found = find_artifact(store, key))
      return {.artifact = *std::move(found), .was_found = true};
    // Without a store to write to there is nobody to wait for.
    if (store.state() != StoreState::kReadWrite) return make_and_put(store, make);
    std::string owner = new_lease_owner();
    const LeaseResult lease = take_lease(store, key, owner, options.lease_ms);
    if (lease == LeaseResult::kNoStore) return make_and_put(store, make);
    if (lease == LeaseResult::kMine) {
      const HeldLease held(store, key, std::move(owner));
      // Whoever had it before may just have finished.
      if (std::optional<Artifact> found = find_artifact(store, key))
        return {.artifact = *std::move(found), .was_found = true};
      return make_and_put(store, make);
    }
    if (options.stop.stop_requested() || std::chrono::steady_clock::now() >= deadline) return make_and_put(store, make);
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
}

}  // namespace harrier
