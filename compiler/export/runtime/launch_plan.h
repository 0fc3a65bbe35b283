// A launch as it is put together: sizes first, addresses last.
#pragma once

#include "driver.h"
#include "tables.h"

enum {
  kBuildThreads = 256,
  kCombineThreads = 256,
  kCombineQueries = 8,  // of a CTA
  kPackedRows = -1,
  kSectionRows = 4096,
  kRaggedLog2 = 27,
  kLongestSequence = 1 << 26,  // half of what a ragged map has places for: coordinates stay in int32
  kMaxArrays = 8
};

// A kernel on the device.
typedef struct LoadedKernel {
  const KernelFacts* facts;
  void* kernel_module;
  void* builder_module;
  void* forward;  // of a kernel of gradients null, as is the next; those further below are null of others
  void* combine;
  void* build_lists;  // null where keys follow from the mask
  void* measure_rows;
  void* cut_rows;
  void* order_rows;
  void* stats;
  void* columns;
  void* rows;     // null where there are maps
  void* queries;  // null where there are none
  void* arrays;   // null where scores load nothing that has a gradient
  void* join_columns;
  void* join_rows;  // null where there are maps
  void* transpose_lists;
  void* measure_columns;
  void* cut_columns;
  void* order_columns;
  int most_ctas;      // that run at a time: of `forward` or `columns`
  int most_row_ctas;  // of `rows`
  int most_array_ctas;
} LoadedKernel;

// The kernels of one workload that were loaded.
typedef struct LoadedTarget {
  const TargetFacts* facts;  // null: none is for this GPU
  const LoadedKernel* kernels;
} LoadedTarget;

struct harrier_kernels {
  Driver driver;
  int ordinal;
  int device;
  void* context;
  int owns_context;
  int multiprocessors;
  int64_t l2_bytes;
  char name[96];
  LoadedTarget* targets;  // one a workload
  LoadedKernel* kernels;
  int kernel_count;
};

// What a launch of gradients has beside the rows that every launch has.
typedef struct BackwardPlan {
  BackwardParams params;
  TransposeParams transpose;
  ColumnOrderParams columns;
  int64_t count;                    // columns of one head
  int64_t items;                    // of their order at most
  int64_t array_bytes[kMaxArrays];  // of gradients of arrays, by slot; 0: not wanted
  int learns;                       // 1: some are of what scores load
} BackwardPlan;

typedef struct LaunchPlan {
  const WorkloadFacts* workload;
  const LoadedKernel* kernel;
  ForwardParams forward;
  ListParams lists;
  OrderParams order;
  BackwardPlan backward;
  int64_t batches;  // of tensors: 1 when packed
  int64_t query_tokens;
  int64_t key_tokens;
  int64_t named_pairs;  // (row block, key block) pairs that the table names
  int64_t rows;         // of one head
  int64_t list_heads;   // heads that have lists of their own
  int64_t items;        // of the order at most
  int64_t zero_bytes;   // from the workspace's start: what must be zero before the first kernel
  int64_t bytes;        // of workspace
} LaunchPlan;

static int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
