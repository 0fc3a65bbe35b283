#include "compiler/cuda/cuda_pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <span>

#include "codegen/cuda/emit_backward_stub.h"
#include "codegen/cuda/emit_builder.h"
#include "codegen/cuda/emit_stub.h"
#include "codegen/cuda/segment_bounds.h"
#include "compiler/cuda/choose_cuda_plan.h"
#include "compiler/passes/differentiate.h"
#include "compiler/passes/lower_pattern.h"
#include "compiler/passes/simplify.h"
#include "ir/error.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace harrier {
namespace {

void run_simplify(CudaCompilation& state) { state.workload.pattern = simplify(state.workload.pattern); }

void verify_simplify(const CudaCompilation& state) {
  verify(state.workload.pattern);
  HARRIER_CHECK(simplify(state.workload.pattern) == state.workload.pattern, "simplify must reach a fixed point");
}

std::string print_simplify(const CudaCompilation& state) { return print(state.workload.pattern); }

void run_choose_cuda_plan(CudaCompilation& state) {
  const CudaFamily family = family_of(state.target.architecture);
  state.plan = state.wanted_plan ? *state.wanted_plan : choose_cuda_plan(state.workload, family);
  if (state.plan.family != family) {
    throw InvalidInput(fmt::format("the plan \"{}\" is not for {}: choose one of its family",
                                   print(state.plan, state.workload.shape.direction), state.target.architecture));
  }
}

void verify_choose_cuda_plan(const CudaCompilation& state) { verify(state.plan, state.workload.shape); }

std::string print_choose_cuda_plan(const CudaCompilation& state) {
  return print(state.plan, state.workload.shape.direction) + "\n";
}

void run_lower_pattern(CudaCompilation& state) {
  state.pattern = lower_pattern(state.workload.pattern, state.workload.shape);
}

void verify_lower_pattern(const CudaCompilation& state) {
  HARRIER_CHECK(type_of(state.pattern.score) == ExpressionType::kFloat, "a score must be a float");
}

std::string print_lower_pattern(const CudaCompilation& state) { return print(state.pattern); }

void run_bound_segments(CudaCompilation& state) {
  state.lowered = state.sorted_segments ? bound_segments(state.pattern) : state.pattern;
}

void verify_bound_segments(const CudaCompilation& state) {
  const std::vector<ArraySlot>& own = state.pattern.arrays;
  HARRIER_CHECK(std::ranges::equal(own, std::span(state.lowered.arrays).first(own.size())),
                "derived arrays must stand behind the pattern's own");
}

std::string print_bound_segments(const CudaCompilation& state) { return print(state.lowered); }

bool is_backward(const CudaCompilation& state) { return state.workload.shape.direction == Direction::kBackward; }

void run_differentiate(CudaCompilation& state) {
  if (is_backward(state)) state.slopes = differentiate(state.lowered);
}

void verify_differentiate(const CudaCompilation& state) {
  HARRIER_CHECK(type_of(state.slopes.in_dot) == ExpressionType::kFloat, "a slope must be a float");
}

std::string print_differentiate(const CudaCompilation& state) {
  return is_backward(state) ? print(state.slopes) : "nothing: the kernel is a forward one\n";
}

std::string emit_kernel(const CudaCompilation& state) {
  const Shape& shape = state.workload.shape;
  return is_backward(state) ? emit_cuda_backward_stub(state.lowered, state.slopes, shape, state.plan)
                            : emit_cuda_stub(state.lowered, shape, state.plan);
}

void run_emit_cuda(CudaCompilation& state) {
  state.source = emit_kernel(state);
  state.builder_source = emit_cuda_builder(state.lowered, state.workload.shape, state.plan);
}

void verify_emit_cuda(const CudaCompilation& state) {
  HARRIER_CHECK(state.source == emit_kernel(state), "the same pattern must give the same source");
}

std::string print_emit_cuda(const CudaCompilation& state) { return state.source; }

}  // namespace

CudaFamily family_of(const std::string& architecture) {
  if (architecture == "sm_90a") return CudaFamily::kSm90;
  const size_t digits = architecture.find('_');
  const bool named = architecture.starts_with("sm_") || architecture.starts_with("compute_");
  if (named && std::atoi(architecture.c_str() + digits + 1) >= 80) return CudaFamily::kSm80;
  throw InvalidInput(
      fmt::format("architecture {} is unknown: use sm_80 or newer, sm_90a, or compute_80", architecture));
}

const std::vector<Pass<CudaCompilation>>& cuda_compile_passes() {
  static const std::vector<Pass<CudaCompilation>> kPasses = {
      {"simplify", "apply the table of identities", run_simplify, verify_simplify, print_simplify},
      {"choose_cuda_plan", "choose tiles, stages and warpgroups", run_choose_cuda_plan, verify_choose_cuda_plan,
       print_choose_cuda_plan},
      {"lower_pattern", "lower to expressions and argument slots", run_lower_pattern, verify_lower_pattern,
       print_lower_pattern},
      {"bound_segments", "make intervals of documents", run_bound_segments, verify_bound_segments,
       print_bound_segments},
      {"differentiate", "slopes of the score, for backward kernels", run_differentiate, verify_differentiate,
       print_differentiate},
      {"emit_cuda", "write the kernel's source", run_emit_cuda, verify_emit_cuda, print_emit_cuda},
  };
  return kPasses;
}

CudaCompilation prepare_cuda(const Workload& workload, const CudaTarget& target, const std::optional<CudaPlan>& plan,
                             const PassObserver& observer, bool sorted_segments) {
  verify(workload);
  CudaCompilation compilation;
  compilation.workload = workload;
  compilation.target = target;
  compilation.wanted_plan = plan;
  compilation.sorted_segments = sorted_segments;
  for (const ArrayUse& use : array_uses(workload.pattern)) compilation.array_names.push_back(use.name);
  run_passes(cuda_compile_passes(), compilation, observer);
  return compilation;
}

std::string structure_key(const CudaCompilation& compilation) {
  return compilation.target.architecture + "\n" + compilation.source;
}

}  // namespace harrier
