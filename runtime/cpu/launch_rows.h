// Runs rows on all cores, taken one by one in the order given.
#pragma once

#include <cstdint>
#include <functional>

namespace harrier {

/// Calls run_row(row, scratch) once for each row in [0, rows), from `threads` threads (0: one for each usable core,
/// which is also the most), each taking the next row when it is done with its last. `scratch` is 64-byte aligned,
/// `scratch_floats` long, and the thread's own. The first exception stops the taking of rows and is thrown here.
void launch_rows(int64_t rows, int threads, int64_t scratch_floats,
                 const std::function<void(int64_t row, float* scratch)>& run_row);

}  // namespace harrier
