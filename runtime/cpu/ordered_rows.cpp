#include "runtime/cpu/ordered_rows.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/cpu/launch_rows.h"

namespace harrier {
namespace {

constexpr int64_t kNoRow = std::numeric_limits<int64_t>::max();
constexpr int64_t kAllKeys = std::numeric_limits<int64_t>::max();
constexpr int kSpinsBeforeYield = 64;  // about a microsecond: rows that meet at a tile wait for far less than a tile

}  // namespace

class RowOrder {
 public:
  RowOrder(int64_t rows, int workers, const std::function<SharedMemory(int64_t, int64_t)>& shares)
      : rows_(rows), shares_(shares), places_(static_cast<size_t>(workers)) {}

  /// The worker's next row; kNoRow when there is none. Taken under a lock, so that whoever has a row sees all earlier
  /// ones that are not done.
  int64_t take(int worker) {
    const std::lock_guard lock(mutex_);
    Place& place = places_[static_cast<size_t>(worker)];
    const int64_t row = next_ < rows_ ? next_++ : kNoRow;
    place.keys_done.store(0, std::memory_order_release);
    place.row.store(row, std::memory_order_release);
    return row;
  }

  /// After an exception: no row is given out any more, and nobody waits for this one.
  void abandon(int worker) {
    const std::lock_guard lock(mutex_);
    next_ = rows_;
    places_[static_cast<size_t>(worker)].row.store(kNoRow, std::memory_order_release);
  }

  void publish(int worker, int64_t keys_done) {
    places_[static_cast<size_t>(worker)].keys_done.store(keys_done, std::memory_order_release);
  }

  /// The keys below which no earlier row that shares `what` adds any more; 0 while a row that shares kAny is under way.
  int64_t open_end(int worker, int64_t row, SharedMemory what) const {
    int64_t end = kAllKeys;
    for (size_t i = 0; i < places_.size(); ++i) {
      if (static_cast<int>(i) == worker) continue;
      const Place& place = places_[i];
      const int64_t other = place.row.load(std::memory_order_acquire);
      if (other >= row || shares_(other, row) != what) continue;
      // If the worker has gone on to a later row by now, the keys are that row's: too few at worst, never too many.
      const int64_t keys_done = place.keys_done.load(std::memory_order_acquire);
      end = std::min(end, what == SharedMemory::kAny ? 0 : keys_done);
    }
    return end;
  }

 private:
  /// What one worker is doing, on a cache line of its own.
  struct alignas(64) Place {
    std::atomic<int64_t> row{kNoRow};
    std::atomic<int64_t> keys_done{0};
  };

  const int64_t rows_;
  const std::function<SharedMemory(int64_t, int64_t)>& shares_;
  std::mutex mutex_;
  int64_t next_ = 0;
  std::vector<Place> places_;
};

namespace {

/// Spins, then gives the core away between looks, until `is_free()`.
template <typename IsFree>
void wait_until(IsFree&& is_free) {
  for (int spins = 0; !is_free(); ++spins) {
    if (spins >= kSpinsBeforeYield) std::this_thread::yield();
  }
}

}  // namespace

void RowTurn::await_row() {
  wait_until([&] { return order_.open_end(worker_, row_, SharedMemory::kAny) == kAllKeys; });
}

void RowTurn::await_keys(int64_t key_begin, int64_t key_end) {
  order_.publish(worker_, key_begin);
  wait_until([&] {
    if (open_end_ < key_end) open_end_ = order_.open_end(worker_, row_, SharedMemory::kByKey);
    return open_end_ >= key_end;
  });
}

void launch_ordered_rows(int64_t rows, int threads, int64_t scratch_floats,
                         const std::function<SharedMemory(int64_t earlier, int64_t later)>& shares,
                         const std::function<void(int64_t row, float* scratch, RowTurn& turn)>& run_row) {
  const int workers = worker_count(rows, threads);
  RowOrder order(rows, workers, shares);
  run_workers(workers, scratch_floats, [&](int worker, float* scratch) {
    try {
      for (int64_t row = order.take(worker); row != kNoRow; row = order.take(worker)) {
        RowTurn turn(order, worker, row);
        run_row(row, scratch, turn);
      }
    } catch (...) {
      order.abandon(worker);
      throw;
    }
  });
}

}  // namespace harrier
