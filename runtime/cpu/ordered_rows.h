// Runs rows on all cores like launch_rows, where rows add to the same memory: each adds in its turn, in the order
// given, whatever the number of threads. Sums of floats come out the same, bit for bit.
#pragma once

#include <cstdint>
#include <functional>

namespace harrier {

/// What a row has in common with an earlier one of the order.
enum class SharedMemory {
  kNone,
  kByKey,  // both add for the same keys, and each rises through its keys
  kAny,    // nothing may be added before the earlier row is done
};

class RowOrder;  // which rows are under way

/// A row's place in the order. Handed to the thread that works on the row.
class RowTurn {
 public:
  RowTurn(RowOrder& order, int worker, int64_t row) : order_(order), worker_(worker), row_(row) {}

  /// Waits until every earlier row that shares `kAny` is done.
  void await_row();

  /// Says that all is added for keys below `key_begin`, then waits until every earlier row that shares `kByKey` has
  /// added all that it adds for keys below `key_end`.
  void await_keys(int64_t key_begin, int64_t key_end);

 private:
  RowOrder& order_;
  int worker_;
  int64_t row_;
  int64_t open_end_ = 0;  // keys below this are known to be free
};

/// Calls run_row(row, scratch, turn) once for each row of [0, rows), from threads and with scratch as launch_rows does.
/// `shares(earlier, later)` is asked of rows under way, at any time, from any thread. The first exception is thrown
/// here.
void launch_ordered_rows(int64_t rows, int threads, int64_t scratch_floats,
                         const std::function<SharedMemory(int64_t earlier, int64_t later)>& shares,
                         const std::function<void(int64_t row, float* scratch, RowTurn& turn)>& run_row);

}  // namespace harrier
