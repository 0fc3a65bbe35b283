// What the sources of forward and backward kernels share beside the mask: the score and the softmax's sink.
#pragma once

#include <optional>
#include <string>

#include "ir/cuda_plan.h"
#include "ir/lowered.h"

namespace harrier {

/// Throws InvalidInput for more numbers or arrays than kernels are handed: 16 integers, 16 floats, 8 arrays.
void verify_slots(const LoweredPattern& lowered);

/// The float parameter that kernels fold into the exponent: their score_scale is its value times log2(e). Nothing when
/// the score is more than s * parameter or the plan does not fold: then score_scale is log2(e).
std::optional<int> folded_scale(const LoweredPattern& lowered, const CudaPlan& plan);

/// `Score`, as a struct or as another name of ScaledScore. With `slopes` it has its slope in q . k too.
std::string emit_cuda_score(const LoweredPattern& lowered, const CudaPlan& plan, const ScoreSlopes* slopes = nullptr);

/// `Sink`, likewise, and an empty line. A learned one says where its logit lies.
std::string emit_cuda_sink(const LoweredPattern& lowered, bool is_learned = false);

}  // namespace harrier
