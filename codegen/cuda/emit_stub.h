// Emits the source of one CUDA kernel: a few dozen lines (Config, Mask, Score, Sink, the entry) over kernels/*.cuh.
#pragma once

#include <string>

#include "codegen/cuda/emit_mask.h"
#include "codegen/cuda/emit_score.h"
#include "ir/cuda_plan.h"
#include "ir/lowered.h"
#include "ir/workload.h"

namespace harrier {

inline constexpr const char* kCudaForwardName = "harrier_forward";

/// The same arguments give the same text. Throws InvalidInput for a plan that does not fit and for what CUDA kernels do
/// not do yet: more than 16 numbers or 8 arrays.
std::string emit_cuda_stub(const LoweredPattern& lowered, const Shape& shape, const CudaPlan& plan);

}  // namespace harrier
