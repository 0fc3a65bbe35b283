#include "codegen/cuda/emit_score.h"

#include <fmt/format.h>

#include "codegen/cuda/emit_expression.h"
#include "ir/error.h"

namespace harrier {
namespace {

constexpr size_t kMostIntegers = 16;
constexpr size_t kMostFloats = 16;
constexpr size_t kMostArrays = 8;

std::string score_function(const char* name, const Expression& expression, const LoweredPattern& lowered) {
  return fmt::format(
      "  static __device__ __forceinline__ float {}(const Position& at, float s, int query, int key) {{\n"
      "    const Int q = query, k = key;\n    return {};\n  }}\n",
      name, emit_cuda_float(expression, lowered.arrays));
}

}  // namespace

void verify_slots(const LoweredPattern& lowered) {
  if (lowered.int_values.size() <= kMostIntegers && lowered.float_values.size() <= kMostFloats &&
      lowered.arrays.size() <= kMostArrays) {
    return;
  }
  throw InvalidInput(
      fmt::format("the pattern has {} integers, {} floats and {} arrays, the limits are {}, {} and {}: simplify it",
                  lowered.int_values.size(), lowered.float_values.size(), lowered.arrays.size(), kMostIntegers,
                  kMostFloats, kMostArrays));
}

std::optional<int> folded_scale(const LoweredPattern& lowered, const CudaPlan& plan) {
  const auto* product = std::get_if<Binary>(&lowered.score.node);
  if (!plan.fold_scale || product == nullptr || product->kind != BinaryKind::kMultiply) return std::nullopt;
  const auto* parameter = std::get_if<Parameter>(&product->right->node);
  if (!(*product->left == var::s()) || parameter == nullptr || !parameter->is_float) return std::nullopt;
  return parameter->index;
}

std::string emit_cuda_score(const LoweredPattern& lowered, const CudaPlan& plan, const ScoreSlopes* slopes) {
  if (folded_scale(lowered, plan)) return "using Score = ScaledScore;\n";
  return "struct Score {\n  static constexpr bool kIdentity = false;\n" +
         score_function("score", lowered.score, lowered) +
         (slopes != nullptr ? score_function("slope", slopes->in_dot, lowered) : std::string()) + "};\n";
}

std::string emit_cuda_sink(const LoweredPattern& lowered, bool is_learned) {
  if (lowered.softmax != SoftmaxKind::kSinkLogit) return "using Sink = NoSink;\n\n";
  const Load logit{.array = lowered.sink_logits, .indices = {var::h()}, .is_float = true};
  std::string text = fmt::format(
      "\nstruct Sink {{\n  static constexpr bool kExists = true;\n"
      "  static __device__ __forceinline__ float logit(const Position& at) {{ return {}; }}\n",
      emit_cuda_float({logit}, lowered.arrays));
  if (is_learned) {
    text += fmt::format(
        "  static constexpr int kSlot = {};\n"
        "  static __device__ __forceinline__ int64 place(const Position& at) {{ return {}; }}\n",
        array_slot(lowered.arrays, lowered.sink_logits), emit_cuda_place(logit, lowered.arrays));
  }
  return text + "};\n\n";
}

}  // namespace harrier
