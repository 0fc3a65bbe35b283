// The compile pipeline of CUDA kernels.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "compiler/pass_list.h"
#include "ir/cuda_plan.h"
#include "ir/lowered.h"
#include "ir/workload.h"

namespace harrier {

/// What a kernel is compiled for.
struct CudaTarget {
  std::string architecture = "sm_90a";  // as NVRTC takes it: sm_80, sm_86, sm_89, sm_90a; compute_80 for PTX
  int64_t multiprocessors = 132;
  int64_t l2_bytes = 52428800;
  bool operator==(const CudaTarget&) const = default;
};

/// sm_90a has a kernel of its own; everything else from sm_80 on shares one. Throws InvalidInput for what is neither.
CudaFamily family_of(const std::string& architecture);

struct CudaCompilation {
  Workload workload;                     // verified; simplified by the first pass
  std::vector<std::string> array_names;  // of the pattern as written: simplifying may drop some
  CudaTarget target;
  std::optional<CudaPlan> wanted_plan;  // instead of the default
  bool sorted_segments = true;          // ids of documents do not fall inside a sequence: then they are intervals
  CudaPlan plan;
  LoweredPattern pattern;  // as lower_pattern gives it: what binding knows
  LoweredPattern lowered;  // what kernels are made from: arrays derived from the pattern's own stand behind them
  ScoreSlopes slopes;      // of backward kernels
  std::string source;
  std::string builder_source;  // of the kernels that build lists and the order of work
};

/// simplify, choose_cuda_plan, lower_pattern, bound_segments, differentiate, emit_cuda
const std::vector<Pass<CudaCompilation>>& cuda_compile_passes();

/// Verifies the workload and runs the passes. Needs no GPU. Throws InvalidInput.
CudaCompilation prepare_cuda(const Workload& workload, const CudaTarget& target,
                             const std::optional<CudaPlan>& plan = {}, const PassObserver& observer = {},
                             bool sorted_segments = true);

/// Everything that the machine code depends on beside NVRTC; numbers of the pattern are arguments and not part of it.
std::string structure_key(const CudaCompilation& compilation);

}  // namespace harrier
