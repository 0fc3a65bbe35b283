#include "codegen/cuda/emit_stub.h"

#include <fmt/format.h>

#include "codegen/cuda/emit_score.h"
#include "codegen/cuda/table_use.h"
#include "ir/text.h"

namespace harrier {
namespace {

std::string config_text(const LoweredPattern& lowered, const Shape& shape, const CudaPlan& plan) {
  std::string text = "struct Config {\n";
  const auto line = [&](const char* type, const char* name, const std::string& value, const char* why = "") {
    text += fmt::format("  static constexpr {} {} = {};{}{}\n", type, name, value, *why ? "  // " : "", why);
  };
  const auto number = [](int64_t value) { return fmt::format("{}", value); };
  line("int", "kHeadDim", number(padded_dim(shape.head_dim)), "columns of Q and K, padded with zeros");
  line("int", "kValueDim", number(padded_dim(shape.value_dim)));
  line("int", "kTileQ", number(row_queries(plan)), "queries of a row");
  line("int", "kTileK", number(plan.tile_k), "keys of a tile");
  line("int", "kBoxRows", number(plan.box_rows), "keys that are copied together");
  if (plan.family == CudaFamily::kSm90) {
    line("int", "kConsumers", number(plan.consumers), "warpgroups");
    line("int", "kStages", number(plan.stages), "buffers of K, and of V");
    line("int", "kQueryStages", number(plan.query_stages));
    line("int", "kConsumerRegisters", number(plan.consumer_registers), "of a thread");
    line("int", "kProducerRegisters", number(plan.producer_registers));
    line("int", "kCtasPerSm", number(plan.ctas_per_sm));
    line("bool", "kPingPong", plan.ping_pong ? "true" : "false", "warpgroups issue their products in turn");
  } else {
    line("int", "kWarpRows", number(plan.warp_rows), "queries of a warp");
  }
  line("bool", "kBFloat16", shape.dtype == DataType::kBFloat16 ? "true" : "false");
  line("KeySourceKind", "kKeySource",
       key_source_of(lowered) == CudaKeySource::kLists ? "KeySourceKind::kLists" : "KeySourceKind::kClosedForm");
  return text + "};\n\n";
}

}  // namespace

std::string emit_cuda_stub(const LoweredPattern& pattern, const Shape& shape, const CudaPlan& plan) {
  verify(plan, shape);
  const LoweredPattern lowered = cuda_pattern(pattern, plan);
  verify_slots(lowered);
  const bool sm90 = plan.family == CudaFamily::kSm90;
  const char* family = sm90 ? "sm90" : "sm80";
  std::string text =
      fmt::format("// Made by Harrier for {}. Pattern:\n{}// Shape: {}\n// Plan: {}\n", sm90 ? "sm_90a" : "sm_80",
                  commented(structural_text(lowered)), print(shape), print(plan, Direction::kForward));
  text += fmt::format(
      "#include \"codegen/cuda/kernels/forward_{}.cuh\"\n#include \"codegen/cuda/kernels/language.cuh\"\n\nnamespace "
      "harrier {{\n\n",
      family);
  text += emit_cuda_mask(lowered, plan, MaskUse::kForward) + emit_cuda_score(lowered, plan) + emit_cuda_sink(lowered) +
          config_text(lowered, shape, plan);
  text += fmt::format(
      "static_assert({}<Config>::kBytes == {}, \"the plan and the kernel disagree on shared memory\");\n"
      "static_assert({}<Config>() == {}, \"the plan and the kernel disagree on threads\");\n\n"
      "}}  // namespace harrier\n\n",
      sm90 ? "SharedLayout" : "SharedLayoutSm80", shared_bytes(plan, shape),
      sm90 ? "forward_threads" : "forward_threads_sm80", cuda_threads(plan));
  text += fmt::format(
      "extern \"C\" __global__ void __launch_bounds__({}, {}) {}(\n"
      "    const __grid_constant__ harrier::ForwardParams params) {{\n"
      "  extern __shared__ __align__(1024) unsigned char memory[];\n"
      "  harrier::forward_{}<harrier::Config, harrier::Mask, harrier::Score, harrier::Sink>(params, memory);\n}}\n",
      cuda_threads(plan), plan.ctas_per_sm, kCudaForwardName, family);
  return text;
}

}  // namespace harrier
