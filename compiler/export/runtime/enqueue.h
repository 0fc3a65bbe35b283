// Kernels onto a stream.
#pragma once

#include "launch_plan.h"

typedef struct Grid {
  int64_t x;
  int64_t y;
  int64_t z;
} Grid;

// Nothing where the grid is empty.
static int enqueue(const harrier_kernels* kernels, void* function, Grid grid, int threads, int shared_bytes,
                   void** parameters, void* stream, harrier_kernels_error* error) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return harrier_kernels_success;
  const int result = kernels->driver.launch(function, (unsigned)grid.x, (unsigned)grid.y, (unsigned)grid.z,
                                            (unsigned)threads, 1, 1, (unsigned)shared_bytes, stream, parameters, NULL);
  if (result == kCudaSuccess) return harrier_kernels_success;
  return fail(error, result == kCudaOutOfMemory ? harrier_kernels_out_of_memory : harrier_kernels_launch_failed,
              "launching %lld x %lld CTAs of %d threads and %d bytes of shared memory: %s: an earlier launch may have "
              "failed, wait for the stream to see",
              (long long)grid.x, (long long)grid.y, threads, shared_bytes, name_of_result(&kernels->driver, result));
}

// Lists of key boxes, and the order of rows.
static int build_rows(const harrier_kernels* kernels, LaunchPlan* plan, uint64_t workspace, void* stream,
                      harrier_kernels_error* error) {
  const LoadedKernel* kernel = plan->kernel;
  const KernelFacts* facts = kernel->facts;
  const int64_t heads = plan->list_heads;
  int code = check(&kernels->driver, kernels->driver.fill_bytes(workspace, 0, (size_t)plan->zero_bytes, stream),
                   "clearing counters", error);
  void* lists[] = {&plan->lists};
  void* order[] = {&plan->order};
  const Grid rows = {plan->rows, heads, 1};
  const Grid by_warp = {divide_up(plan->rows, kBuildThreads / 32), heads, 1};
  const Grid by_thread = {divide_up(plan->rows, kBuildThreads), heads, 1};
  if (!code && facts->lists) {
    code =
        enqueue(kernels, kernel->build_lists, rows, kBuildThreads, facts->builder_shared_bytes, lists, stream, error);
  }
  if (!code) code = enqueue(kernels, kernel->measure_rows, by_warp, kBuildThreads, 0, order, stream, error);
  if (!code) code = enqueue(kernels, kernel->cut_rows, by_thread, kBuildThreads, 0, order, stream, error);
  if (!code) code = enqueue(kernels, kernel->order_rows, by_warp, kBuildThreads, 0, order, stream, error);
  return code;
}
