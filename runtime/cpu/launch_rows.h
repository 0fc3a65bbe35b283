// Runs rows on all cores, taken one by one in the order given.
#pragma once

#include <cstdint>
#include <functional>

namespace harrier {

/// How many threads work on `rows` rows: `threads` (0: one for each usable core, which is also the most), and never
/// more than there are rows; at least 1.
int worker_count(int64_t rows, int threads);

/// Calls work(worker, scratch) once for each worker of [0, workers), at once as far as there are threads. `scratch` is
/// 64-byte aligned, `scratch_floats` long, and the worker's own. The first exception is thrown here.
void run_workers(int workers, int64_t scratch_floats, const std::function<void(int worker, float* scratch)>& work);

/// Calls run_row(row, scratch) once for each row in [0, rows), by worker_count(rows, threads) workers, each taking the
/// next row when it is done with its last. The first exception stops the taking of rows and is thrown here.
void launch_rows(int64_t rows, int threads, int64_t scratch_floats,
                 const std::function<void(int64_t row, float* scratch)>& run_row);

}  // namespace harrier
