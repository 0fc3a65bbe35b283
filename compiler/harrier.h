// The public entry: compile a workload, run the kernel.
//
//   auto kernel = harrier::compile(harrier::parse_workload(text));
//   kernel.run(tensors, {{"table", view}});
//
// A workload with direction backward compiles to a kernel of its own, for run_backward.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compiler/pipeline.h"
#include "compiler/tensor.h"
#include "ir/error.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "ir/workload.h"

namespace harrier {

struct CompileOptions {
  CpuTarget target;  // default: the host (an empty triple)
  int threads = 0;   // 0: every core this process may use
  PassObserver observer;
};

/// What one run did.
struct RunReport {
  std::vector<PassTime> passes;  // bind, classify_tiles, schedule_rows
  double kernel_us = 0;          // from the first row taken to the last row written
  int64_t rows = 0;
  int64_t split_rows = 0;  // of them computed in parts (CUDA)
  TileCounts tiles;
};

struct CompiledKernel;  // internal

/// A compiled pattern. Cheap to copy, immutable, safe to run from several threads at once.
class Kernel {
 public:
  explicit Kernel(std::shared_ptr<const CompiledKernel> compiled) : compiled_(std::move(compiled)) {}

  /// O = softmax(score(Q K^T) under the mask) V for every sequence and head. Throws InvalidInput before anything is
  /// written.
  RunReport run(const AttentionTensors& tensors, const Bindings& bindings, const PassObserver& observer = {}) const;

  /// Gradients of sum(O * d_out): of q, k and v, and of the arrays that `gradients` names. `tensors` are those of the
  /// forward call with what it wrote: `out` and `lse` are read. For a workload with direction backward; see
  /// compiler/README.md for what it computes, in which order and in how much memory. Throws InvalidInput before
  /// anything is written.
  RunReport run_backward(const AttentionTensors& tensors, const AttentionGradients& gradients, const Bindings& bindings,
                         const PassObserver& observer = {}) const;

  const Compilation& compilation() const;
  const std::vector<PassTime>& compile_times() const;  // passes, then "emit", "jit"
  std::string llvm_ir() const;

 private:
  std::shared_ptr<const CompiledKernel> compiled_;
};

/// Verifies, runs the compile passes, emits and compiles. Throws InvalidInput or ToolchainError (an LLVM that is not
/// built in, say).
Kernel compile(const Workload& workload, const CompileOptions& options = {});

/// Compiles and remembers by structure: workloads that differ only in numbers (windows, scales, lengths) share one
/// compiled function. Safe for several threads; equal workloads compile once.
class Compiler {
 public:
  explicit Compiler(CompileOptions options = {});
  Kernel compile(const Workload& workload);
  int64_t compilations() const;  // functions compiled so far

 private:
  struct Cache;
  std::shared_ptr<Cache> cache_;
  CompileOptions options_;
};

/// (query, key) pairs attended, with multiplicity, over all heads: useful flops are 2 x (head_dim + value_dim) x this.
int64_t count_visible_pairs(const Pattern& pattern, const Shape& shape, const Geometry& geometry,
                            const Bindings& bindings);

}  // namespace harrier
