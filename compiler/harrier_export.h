// The public entry to exports: kernels compiled ahead of time, for programs without a compiler.
//
//   harrier::ExportOptions options{.architectures = {"sm_90a", "sm_80", "compute_80"}, .folder = "kernels"};
//   harrier::export_kernels({{.workload = harrier::parse_workload(text)}}, harrier::cuda::load_nvrtc(), options);
//
// Needs NVRTC and no GPU. The same input gives the same bytes.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "compiler/cuda/cuda_schedule.h"
#include "compiler/export/choose_kernels.h"
#include "compiler/export/decision_tree.h"
#include "ir/cuda_plan.h"
#include "ir/workload.h"
#include "runtime/cuda/nvrtc.h"

namespace harrier {

enum class ExportFormat {
  kC,       // a C source with the machine code, a header and CMake files; the process needs libcuda alone
  kPack,    // one SQLite file, which load_pack (compiler/export/pack.h) reads
  kFatbin,  // files that CUDA's own tools link, and their manifest
};

/// A plan that was measured.
struct ExportCandidate {
  std::string architecture;
  CudaPlan plan;
  std::optional<CudaSchedule> schedule = {};  // else by each launch's lengths
  std::vector<double> microseconds = {};      // one for each bucket; infinity where it does not run
};

/// What is exported of one workload. Without candidates an architecture gets the default plan alone, else the fewest of
/// its candidates that keep to `most_slowdown` in every bucket, and a decision tree that chooses among them.
struct ExportWorkload {
  Workload workload;
  std::vector<LengthBucket> buckets = {};
  std::vector<ExportCandidate> candidates = {};
};

struct ExportOptions {
  /// sm_80 and newer, sm_90a: machine code; compute_80: text that any later driver compiles.
  std::vector<std::string> architectures = {};
  ExportFormat format = ExportFormat::kC;
  std::string folder = {};               // where the files appear, all together
  std::string name = "harrier_kernels";  // of files and C functions
  double most_slowdown = 1.05;
  std::stop_token stop = {};
};

/// One kernel that was exported.
struct ExportedKernelReport {
  std::string workload;
  std::string architecture;
  std::string plan;
  int64_t bytes = 0;               // of its machine code, the builder's included
  std::vector<std::string> notes;  // what slows it down, or why the plan is not the one that was asked for
};

struct ExportReport {
  std::vector<ExportedKernelReport> kernels;
  std::vector<std::string> files;  // names in the folder
};

/// Compiles, and writes the folder whole or not at all: an earlier export there is replaced, any other file in it is an
/// error. Throws InvalidInput (also, of C exports, for patterns that need the host to bind their arrays),
/// ToolchainError.
ExportReport export_kernels(const std::vector<ExportWorkload>& workloads, const cuda::Nvrtc& nvrtc,
                            const ExportOptions& options);

}  // namespace harrier
