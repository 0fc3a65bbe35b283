#include "runtime/cpu/launch_rows.h"

#include <tbb/blocked_range.h>
#include <tbb/cache_aligned_allocator.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "runtime/cpu/core_count.h"

namespace harrier {

int worker_count(int64_t rows, int threads) {
  const int cores = usable_cores();
  const int64_t wanted = threads > 0 ? std::min(threads, cores) : cores;
  return static_cast<int>(std::min(wanted, std::max<int64_t>(rows, 1)));
}

void run_workers(int workers, int64_t scratch_floats, const std::function<void(int worker, float* scratch)>& work) {
  const auto run = [&](int worker) {
    std::vector<float, tbb::cache_aligned_allocator<float>> scratch(static_cast<size_t>(scratch_floats));
    work(worker, scratch.data());
  };
  if (workers == 1) return run(0);
  tbb::task_arena arena(workers);
  arena.execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<int>(0, workers, 1), [&](const tbb::blocked_range<int>& range) { run(range.begin()); },
        tbb::simple_partitioner());
  });
}

void launch_rows(int64_t rows, int threads, int64_t scratch_floats,
                 const std::function<void(int64_t row, float* scratch)>& run_row) {
  std::atomic<int64_t> next_row{0};
  run_workers(worker_count(rows, threads), scratch_floats, [&](int /*worker*/, float* scratch) {
    try {
      for (int64_t row = next_row++; row < rows; row = next_row++) run_row(row, scratch);
    } catch (...) {
      next_row = rows;
      throw;
    }
  });
}

}  // namespace harrier
