// How a backward call behaves, whatever it computes: order of sums, memory, vector widths, what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <fstream>
#include <string>

#include "support/backward_case.h"

namespace harrier {
namespace {

using testing::HasSubstr;

Workload learned_workload() {
  using namespace var;
  Workload workload{.name = "learned",
                    .shape = {.heads = 4, .kv_heads = 2, .head_dim = 32, .value_dim = 24},
                    .pattern = {.mask = window(90, 40) | sink(2)},
                    .lengths = FixedLength{64}};
  workload.pattern.score.bias = "bias";
  workload.pattern.score.expression =
      s() * load("gain", {h()}, true) + load("distance", {(q() + k()) % constant(int64_t{5})}, true);
  workload.pattern.softmax = SoftmaxSinkLogit{"sinks"};
  return workload;
}

TEST(BackwardRun, GivesTheSameBitsForAnyNumberOfThreadsAndEveryTime) {
  for (const uint64_t seed : {3, 4}) {  // arrays that broadcast over heads, and that do not
    const AttentionCase test{learned_workload(), packed_geometry({270, 70}, {270, 70}), LayoutKind::kPacked, seed};
    SCOPED_TRACE(describe(test));
    const std::vector<uint8_t> alone = run_backward_case(test, {.target = {}, .threads = 1, .observer = {}}).gradients;
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(run_backward_case(test, {.target = {}, .threads = 0, .observer = {}}).gradients == alone);
    }
  }
}

TEST(BackwardRun, EveryVectorWidthUpToTheHostsMatchesTheOracle) {
  Workload workload{.name = "widths",
                    .shape = {.heads = 2, .kv_heads = 1, .head_dim = 24, .value_dim = 40, .dtype = DataType::kFloat16},
                    .pattern = {.mask = (window(33, 4) & causal()) | sink(3)},
                    .lengths = FixedLength{64}};
  workload.pattern.score.softcap = 2.0;
  workload.pattern.score.alibi = "slopes";
  const CpuTarget host = compile(workload).compilation().target;
  for (const auto& [lanes, registers] : {std::pair{4, 16}, {4, 32}, {8, 16}, {16, 32}}) {
    if (lanes > host.vector_lanes) continue;
    CompileOptions options{.target = host, .threads = 0, .observer = {}};
    options.target.vector_lanes = lanes;
    options.target.vector_registers = registers;
    const AttentionCase test{workload, packed_geometry({0, 150, 9}, {0, 150, 9}), LayoutKind::kPacked, 5};
    SCOPED_TRACE(std::to_string(lanes) + " lanes\n" + describe(test));
    const BackwardErrors errors = run_backward_case(test, options);
    const double tolerance = backward_tolerance_of(workload.shape.dtype);
    EXPECT_LE(errors.d_q, tolerance);
    EXPECT_LE(errors.d_k, tolerance);
    EXPECT_LE(errors.d_v, tolerance);
    EXPECT_LE(errors.d_arrays, tolerance);
    EXPECT_TRUE(errors.canaries_intact);
  }
}

/// Kilobytes of one field of /proc/self/status ("VmRSS", "VmHWM").
int64_t status_kilobytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1));
  }
  return 0;
}

/// Tensors of one padded sequence, dense.
struct DenseCall {
  std::vector<std::vector<uint16_t>> owned;
  std::vector<float> lse;
  AttentionTensors tensors;
  AttentionGradients gradients;

  explicit DenseCall(int64_t length) : lse(static_cast<size_t>(length)) {
    owned.reserve(8);
    const auto make = [&] {
      owned.emplace_back(static_cast<size_t>(length * 16));
      return TensorView{
          .data = owned.back().data(), .dtype = DataType::kBFloat16, .shape = {1, 1, length, 16}, .strides = {}};
    };
    tensors.q = make();
    tensors.k = make();
    tensors.v = make();
    tensors.out = make();
    tensors.lse = {.data = lse.data(), .dtype = DataType::kFloat32, .shape = {1, 1, length}, .strides = {}};
    gradients = {.d_out = make(), .d_q = make(), .d_k = make(), .d_v = make(), .arrays = {}};
  }
};

Workload small_workload(Direction direction) {
  return {.name = "small",
          .shape = {.heads = 1,
                    .kv_heads = 1,
                    .head_dim = 16,
                    .value_dim = 16,
                    .dtype = DataType::kBFloat16,
                    .direction = direction},
          .pattern = {.mask = window(128, 0)},
          .lengths = FixedLength{64}};
}

TEST(BackwardRun, TakesMemoryInProportionToTheTokens) {
  const Kernel kernel = compile(small_workload(Direction::kBackward));
  DenseCall warm(1024);
  kernel.run_backward(warm.tensors, warm.gradients, {});
  constexpr int64_t kLength = 1 << 18;
  DenseCall call(kLength);
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // the high-water mark becomes what is held now
  const int64_t before = status_kilobytes("VmRSS");
  kernel.run_backward(call.tensors, call.gradients, {});
  const int64_t extra = status_kilobytes("VmHWM") - before;
  // Sums of fp32 for keys and values, and the launch's runs. A byte for each pair would be 64 GiB.
  const int64_t sums = kLength * (16 + 16) * 4 / 1024;
  if (status_kilobytes("VmHWM") == 0) GTEST_SKIP() << "the system does not tell the peak of memory";
  EXPECT_LT(extra, sums + kLength * 32 / 1024 + 8192);
}

TEST(BackwardRun, LeavesTheMemoryOfEmptySequencesAlone) {
  const Kernel kernel = compile(small_workload(Direction::kBackward));
  DenseCall call(0);
  EXPECT_EQ(kernel.run_backward(call.tensors, call.gradients, {}).rows, 0);
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const InvalidInput& error) {
    return error.what();
  }
  return "";
}

TEST(BackwardRun, AKernelRunsInTheDirectionThatItIsCompiledFor) {
  DenseCall call(8);
  const Kernel forward = compile(small_workload(Direction::kForward));
  const Kernel backward = compile(small_workload(Direction::kBackward));
  EXPECT_EQ(refusal([&] { forward.run_backward(call.tensors, call.gradients, {}); }),
            "the kernel is compiled with direction forward; call run, or compile direction backward");
  EXPECT_EQ(refusal([&] { backward.run(call.tensors, {}); }),
            "the kernel is compiled with direction backward; call run_backward, or compile direction forward for run");
  call.gradients.d_q.data = call.tensors.k.data;
  EXPECT_THAT(refusal([&] { backward.run_backward(call.tensors, call.gradients, {}); }),
              HasSubstr("d_q lies on the memory of k"));
}

}  // namespace
}  // namespace harrier
