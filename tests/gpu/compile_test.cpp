// Every kind of pattern compiles through the real NVRTC for every family: no spills, no serialised products, the same
// bytes twice. Needs no GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "masks.h"
#include "test_gpu.h"

namespace harrier {
namespace {

struct CompileCase {
  std::string name;
  Workload workload;
  std::string architecture;
  bool slow = false;  // left out where not every case is taken
};

void PrintTo(const CompileCase& compile_case, std::ostream* out) { *out << compile_case.name; }

std::string print_dims(const Shape& shape) {
  return std::to_string(shape.head_dim) + "_" + std::to_string(shape.value_dim);
}

std::vector<CompileCase> compile_cases() {
  const std::vector<std::string> architectures = {"sm_90a", "sm_80", "sm_89"};
  std::vector<CompileCase> cases;
  size_t turn = 0;
  // Masks and shapes each take the architectures in turn; every pair is taken where there is time.
  const auto add = [&](const std::string& name, const Workload& workload) {
    ++turn;
    for (size_t i = 0; i < architectures.size(); ++i) {
      const bool slow = turn % architectures.size() != i;
      cases.push_back({name + "_" + architectures[i], workload, architectures[i], slow});
    }
  };
  const auto add_backward = [&](const std::string& name, Workload workload) {
    workload.shape.direction = Direction::kBackward;
    add(name, workload);
  };
  for (const test::NamedMask& named : test::masks()) {
    add(named.name, test::workload_of(named.mask, test::shape_of(4, 2, 64)));
  }
  for (const auto& [head_dim, value_dim] :
       std::vector<std::pair<int64_t, int64_t>>{{32, 32}, {96, 96}, {128, 128}, {192, 192}, {192, 128}, {256, 256}}) {
    const Shape shape = test::shape_of(4, 2, head_dim, value_dim);
    Workload dense = test::workload_of(causal(), shape);
    dense.lengths = FixedLength{8192};
    add("causal_" + print_dims(shape), dense);
    dense.pattern.mask = blocks(128, "table");
    add("blocks128_" + print_dims(shape), dense);
  }
  for (const Softmax& softmax : std::vector<Softmax>{SoftmaxPrunedAsZero{}, SoftmaxSinkLogit{"sinks"}}) {
    Workload workload = test::workload_of(window(100, 10), test::shape_of(4, 2, 128));
    workload.shape.dtype = DataType::kFloat16;
    workload.pattern.softmax = softmax;
    workload.pattern.score = {.scale = 0.25, .softcap = 3.0, .alibi = "slopes", .bias = "bias", .expression = {}};
    add(std::holds_alternative<SoftmaxPrunedAsZero>(softmax) ? "pruned_as_zero" : "sink_logit", workload);
  }
  for (const test::NamedMask& named : test::masks()) {
    add_backward(std::string("backward_") + named.name, test::workload_of(named.mask, test::shape_of(4, 2, 64)));
  }
  const auto add_deterministic = [&](const std::string& name, Workload workload, bool slow) {
    workload.shape.direction = Direction::kBackward;
    workload.shape.deterministic = true;
    cases.push_back({"deterministic_" + name, workload, "sm_90a", slow});
  };
  for (const test::NamedMask& named : test::masks()) {
    const bool chosen = named.name == std::string("bigbird64_table");
    add_deterministic(named.name, test::workload_of(named.mask, test::shape_of(4, 2, 64)), !chosen);
  }
  Workload all_steps = test::workload_of((window(1000, 0) & causal()) | sink(4), test::shape_of(4, 2, 128));
  all_steps.pattern.score = {.scale = {}, .softcap = 3.0, .alibi = "slopes", .bias = {}, .expression = {}};
  add_deterministic("scores_128", all_steps, false);
  for (const auto& [head_dim, value_dim] :
       std::vector<std::pair<int64_t, int64_t>>{{32, 32}, {96, 96}, {128, 128}, {192, 192}, {192, 128}, {256, 256}}) {
    add_deterministic("causal_" + std::to_string(head_dim) + "_" + std::to_string(value_dim),
                      test::workload_of(causal(), test::shape_of(4, 2, head_dim, value_dim)), true);
    add_backward("backward_causal_" + std::to_string(head_dim) + "_" + std::to_string(value_dim),
                 test::workload_of(causal(), test::shape_of(4, 2, head_dim, value_dim)));
  }
  Workload learned = test::workload_of(window(100, 10), test::shape_of(4, 2, 64));
  learned.pattern.softmax = SoftmaxSinkLogit{"sinks"};
  learned.pattern.score = {.scale = 0.25, .softcap = 3.0, .alibi = "slopes", .bias = "bias", .expression = {}};
  add_backward("backward_learned", learned);
  return cases;
}

const cuda::Nvrtc* real_nvrtc() {
  static const std::optional<cuda::Nvrtc> found = []() -> std::optional<cuda::Nvrtc> {
    try {
      return cuda::load_nvrtc();
    } catch (const ToolchainError&) {
      return std::nullopt;
    }
  }();
  return found ? &*found : nullptr;
}

class CudaCompile : public testing::TestWithParam<CompileCase> {};

TEST_P(CudaCompile, SpillsNothingAndSerialisesNothing) {
  if (!test::is_thorough() && GetParam().slow) GTEST_SKIP() << "another case covers it here";
  const cuda::Nvrtc* nvrtc = real_nvrtc();
  if (nvrtc == nullptr) GTEST_SKIP() << "no NVRTC on this machine: scripts/setup nvrtc brings it";
  const CudaCompilation compilation = prepare_cuda(GetParam().workload, {.architecture = GetParam().architecture});
  SCOPED_TRACE(print(compilation.plan, compilation.workload.shape.direction));
  const CudaBinaries binaries = compile_source(*nvrtc, compilation);
  const bool backward = GetParam().workload.shape.direction == Direction::kBackward;
  EXPECT_THAT(binaries.kernel.entries, testing::SizeIs(testing::Ge(backward ? 4U : 1U)));
  EXPECT_THAT(binaries.builder.entries, testing::SizeIs(testing::Ge(backward ? 5U : 4U)));
  for (const cuda::EntryUse& entry : binaries.kernel.entries) {
    EXPECT_EQ(entry.spill_bytes, 0) << entry.name;
    EXPECT_GT(entry.registers, 0) << entry.name;
  }
  for (const cuda::EntryUse& entry : binaries.builder.entries) EXPECT_EQ(entry.spill_bytes, 0) << entry.name;
  EXPECT_THAT(binaries.kernel.notes, testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(All, CudaCompile, testing::ValuesIn(compile_cases()),
                         [](const auto& instance) { return instance.param.name; });

TEST(CudaCompileOnce, GivesTheSameBytesTwice) {
  const cuda::Nvrtc* nvrtc = real_nvrtc();
  if (nvrtc == nullptr) GTEST_SKIP() << "no NVRTC on this machine: scripts/setup nvrtc brings it";
  const CudaCompilation compilation =
      prepare_cuda(test::workload_of(window(100, 0), test::shape_of(4, 2, 64)), {.architecture = "sm_90a"});
  EXPECT_EQ(compile_source(*nvrtc, compilation, false).kernel.image,
            compile_source(*nvrtc, compilation, false).kernel.image);
}

TEST(CudaCompileOnce, GivesPtxForEveryLaterGpu) {
  const cuda::Nvrtc* nvrtc = real_nvrtc();
  if (nvrtc == nullptr) GTEST_SKIP() << "no NVRTC on this machine: scripts/setup nvrtc brings it";
  const CudaCompilation compilation =
      prepare_cuda(test::workload_of(causal(), test::shape_of(4, 2, 64)), {.architecture = "compute_80"});
  const CudaBinaries binaries = compile_source(*nvrtc, compilation);
  EXPECT_THAT(std::string(binaries.kernel.image.data()), testing::HasSubstr(".target sm_80"));
}

TEST(CudaCompileOnce, StopsWhenAsked) {
  const cuda::Nvrtc* nvrtc = real_nvrtc();
  if (nvrtc == nullptr) GTEST_SKIP() << "no NVRTC on this machine: scripts/setup nvrtc brings it";
  const CudaCompilation compilation =
      prepare_cuda(test::workload_of(causal(), test::shape_of(4, 2, 128)), {.architecture = "sm_90a"});
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(compile_source(*nvrtc, compilation, false, stop.get_token()), ToolchainError);
}

}  // namespace
}  // namespace harrier
