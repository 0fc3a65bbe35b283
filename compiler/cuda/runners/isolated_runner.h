// Tries candidates in a process of its own, which is started anew after one that crashed, faulted or hung: it costs
// that candidate alone. Machine code is still compiled here, and reaches the other process through the store.
#pragma once

#include <chrono>
#include <iosfwd>
#include <string>
#include <vector>

#include "compiler/cuda/cuda_pipeline.h"
#include "compiler/cuda/runners/candidate_runner.h"
#include "compiler/harrier_cuda.h"

namespace harrier {

struct IsolationLimits {
  std::chrono::milliseconds start{60000};    // until the GPU is open and tensors are there
  std::chrono::milliseconds check{30000};    // compiles where the store has no code
  std::chrono::milliseconds measure{10000};  // of a few launches
};

/// A GPU that this process only knows of: it has no context there, so GPUs in exclusive mode will do.
struct DistantGpu {
  CudaTarget target;
  std::string silicon_key;
  cuda::LazyNvrtc nvrtc;
};

/// `worker`: the program that calls serve_candidates on the same workload and draws, and its arguments. A candidate
/// under which it dies has failed, one that keeps it silent past a limit has timed out; the next is asked of a new one.
/// Where none starts, or a killed one does not go, the device is lost.
CandidateRunner isolated_runner(const std::vector<std::string>& worker, const Workload& workload, const DistantGpu& gpu,
                                const CudaCompileOptions& compile, const IsolationLimits& limits = {});

/// The other end: answers until `requests` ends, or after a candidate that has cost it its context. Lines that are no
/// requests are answered as failures.
void serve_candidates(const CandidateRunner& runner, std::istream& requests, std::ostream& answers);

}  // namespace harrier
