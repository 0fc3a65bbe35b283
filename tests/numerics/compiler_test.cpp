// The compiler as a user holds it: kernels shared by structure, passes that can be watched, calls from several threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "compiler/harrier.h"
#include "support/attention_case.h"

namespace harrier {
namespace {

Workload window_workload(int64_t left) {
  return {.name = "w",
          .shape = {.heads = 1, .kv_heads = 1, .head_dim = 16, .value_dim = 16},
          .pattern = {.mask = window(left, 0) | sink(2)},
          .lengths = FixedLength{64}};
}

TEST(Compiler, ChangingNumbersRecompilesNothing) {
  Compiler compiler;
  for (const int64_t left : {3, 10, 50, 64}) {
    Workload workload = window_workload(left);
    workload.pattern.score.scale = 1.0 / static_cast<double>(left);
    const AttentionCase test{workload, packed_geometry({100, left}, {100, left}), LayoutKind::kPacked, 3};
    SCOPED_TRACE(describe(test));
    EXPECT_LE(run_case(test, compiler.compile(workload)).out, 2e-5);
  }
  EXPECT_EQ(compiler.compilations(), 1);
  Workload other = window_workload(3);
  other.shape.head_dim = 24;
  compiler.compile(other);
  EXPECT_EQ(compiler.compilations(), 2);
}

TEST(Compiler, PatternsThatTreatPaddingDifferentlyShareNoKernel) {
  Compiler compiler;
  for (const Padding& padding : std::vector<Padding>{PaddingExcluded{}, PaddingAdditive{-1.0}}) {
    Workload workload = window_workload(30);
    workload.pattern.mask = window(30, 30);  // valid queries see padding
    workload.pattern.padding = padding;
    const AttentionCase test{workload, padded_geometry(80, {80, 50}), LayoutKind::kBatchHeadLength, 4};
    SCOPED_TRACE(describe(test));
    EXPECT_LE(run_case(test, compiler.compile(workload)).out, 2e-5);
  }
}

TEST(Compiler, CompilesOnceForManyThreads) {
  Compiler compiler;
  std::vector<std::thread> threads;
  std::vector<double> errors(6, 1.0);
  for (size_t i = 0; i < errors.size(); ++i) {
    threads.emplace_back([&, i] {
      const Workload workload = window_workload(static_cast<int64_t>(i) + 5);
      const AttentionCase test{workload, packed_geometry({90}, {90}), LayoutKind::kPacked, i};
      errors[i] = run_case(test, compiler.compile(workload)).out;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const double error : errors) EXPECT_LE(error, 2e-5);
  EXPECT_EQ(compiler.compilations(), 1);
}

TEST(Compiler, TimesEveryPassAndDumpsTheOneAskedFor) {
  std::vector<std::string> dumped;
  CompileOptions options;
  options.observer.dump_after = "lower_pattern";
  options.observer.dump = [&](const std::string& pass, const std::string& text) {
    dumped.push_back(pass);
    EXPECT_FALSE(text.empty());
  };
  const Kernel kernel = compile(window_workload(4), options);
  EXPECT_THAT(dumped, testing::ElementsAre("lower_pattern"));
  std::vector<std::string> timed;
  for (const PassTime& time : kernel.compile_times()) timed.push_back(time.name);
  EXPECT_THAT(timed, testing::ElementsAre("simplify", "choose_plan", "lower_pattern", "differentiate", "emit", "jit"));
  EXPECT_THAT(pass_names(), testing::ElementsAre("simplify", "choose_plan", "lower_pattern", "differentiate", "bind",
                                                 "classify_tiles", "schedule_rows", "choose_cuda_plan",
                                                 "bound_segments", "emit_cuda"));
}

TEST(Compiler, RefusesWhatItCannotDoInOneLine) {
  Workload odd = window_workload(4);
  odd.shape.head_dim = 20;
  EXPECT_THROW(compile(odd), InvalidInput);
}

TEST(Compiler, WritesNothingWhenTheInputIsRefused) {
  const Workload workload = window_workload(4);
  std::vector<float> q(4 * 16, 1.0F);
  std::vector<float> out(4 * 16, 7.0F);
  AttentionTensors tensors;
  tensors.q = {.data = q.data(), .dtype = DataType::kFloat32, .shape = {4, 1, 16}};
  tensors.k = tensors.v = tensors.q;
  tensors.out = {.data = out.data(), .dtype = DataType::kFloat32, .shape = {4, 1, 16}};
  tensors.cu_seqlens = {0, 5};
  EXPECT_THROW(compile(workload).run(tensors, {}), InvalidInput);
  EXPECT_THAT(out, testing::Each(7.0F));
}

}  // namespace
}  // namespace harrier
