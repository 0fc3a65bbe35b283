// Gradients of the kernels for sm_90a against fp64, for every kind of mask, layout and plan.
#include <fmt/format.h>

#include <cmath>

#include "backward_case.h"
#include "device.h"

namespace harrier::test {
namespace {

const std::vector<Sequence> kLengths = {{0, 5}, {1, 1}, {64, 64}, {65, 65}, {127, 200}, {200, 127}, {5, 0}};

/// Numbers of a plan, and head dims.
struct Numbers {
  int head_dim;
  int value_dim;
  int tile_q;
  int tile_k;
  int consumers;
  int stages = 2;
  bool bfloat16 = true;
  const char* source = "kClosedForm";
};

int padded(int dim) { return (dim + 31) / 32 * 32; }

constexpr char kIdentity[] = "using Score = ScaledScore;\n";

std::string source(const Numbers& numbers, const std::string& mask, const std::string& score = kIdentity) {
  return fmt::format(
      R"(// head_dim {head}  value_dim {value}
#include "codegen/cuda/kernels/backward_sm90.cuh"
#include "codegen/cuda/kernels/finish_queries.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {{
{mask}
{score}
struct Config {{
  static constexpr int kHeadDim = {padded_head};
  static constexpr int kValueDim = {padded_value};
  static constexpr int kTileQ = {tile_q};
  static constexpr int kTileK = {tile_k};
  static constexpr int kBoxRows = {tile_k};
  static constexpr int kConsumers = {consumers};
  static constexpr int kStages = {stages};
  static constexpr int kConsumerRegisters = 224;
  static constexpr int kProducerRegisters = 32;
  static constexpr int kCtasPerSm = 1;
  static constexpr bool kBFloat16 = {bfloat16};
  static constexpr KeySourceKind kKeySource = KeySourceKind::{source};
}};
}}

extern "C" __global__ void __launch_bounds__({threads}, 1) harrier_backward_columns(
    const __grid_constant__ harrier::BackwardParams params) {{
  extern __shared__ __align__(1024) unsigned char memory[];
  harrier::backward_columns<harrier::Config, harrier::Mask, harrier::Score>(params, memory);
}}
extern "C" __global__ void __launch_bounds__(harrier::kFinishThreads) harrier_backward_queries(
    const __grid_constant__ harrier::BackwardParams params) {{
  harrier::finish_queries<harrier::Config>(params);
}}
extern "C" __global__ void __launch_bounds__(1) harrier_shared_bytes(int* bytes) {{
  *bytes = harrier::ColumnLayout<harrier::Config>::kBytes;
}}
)",
      fmt::arg("head", numbers.head_dim), fmt::arg("value", numbers.value_dim), fmt::arg("mask", mask),
      fmt::arg("score", score), fmt::arg("padded_head", padded(numbers.head_dim)),
      fmt::arg("padded_value", padded(numbers.value_dim)), fmt::arg("tile_q", numbers.tile_q),
      fmt::arg("tile_k", numbers.tile_k), fmt::arg("consumers", numbers.consumers),
      fmt::arg("stages", numbers.stages), fmt::arg("bfloat16", numbers.bfloat16), fmt::arg("source", numbers.source),
      fmt::arg("threads", 128 * (numbers.consumers + 1)));
}

constexpr Numbers kD64 = {64, 64, 128, 128, 2};
constexpr Numbers kD64OfBlocks = {64, 64, 64, 64, 1};
constexpr Numbers kD128 = {128, 128, 64, 128, 2};
constexpr Numbers kD128OfBlocks = {128, 128, 64, 64, 2};

constexpr char kCausal[] = R"(
struct Mask : NoMask {
  static constexpr MaskKind kKind = MaskKind::kIntervals;
  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {
    return {0, at.aligned(query) + 1};
  }
};
)";

int aligned(const Pair& at) { return at.query + at.sequence.keys - at.sequence.queries; }

BackwardCase causal(const Numbers& numbers) {
  BackwardCase backward;
  backward.source = source(numbers, kCausal);
  backward.pattern.sequences = kLengths;
  backward.pattern.bfloat16 = numbers.bfloat16;
  backward.pattern.count = [](const Pair& at) { return at.key <= aligned(at) ? 1 : 0; };
  return backward;
}

TEST(EmulatedBackward, CausalWithTheNumbersOfEveryPlan) {
  for (const Numbers& numbers :
       {kD64, kD64OfBlocks, kD128, kD128OfBlocks, Numbers{96, 96, 64, 128, 2, 2, false}, Numbers{80, 40, 64, 128, 2},
        Numbers{192, 128, 64, 64, 2}, Numbers{256, 256, 64, 64, 2}, Numbers{32, 32, 128, 128, 2}}) {
    SCOPED_TRACE(testing::Message() << numbers.head_dim << ", " << numbers.tile_q << "x" << numbers.tile_k);
    expect_right(causal(numbers));
  }
}

}  // namespace
}  // namespace harrier::test
