// Machine code shared by structure, and what a schedule may say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test_gpu.h"

namespace harrier {
namespace {

TEST(GpuCompiler, ChangingNumbersRecompilesNothing) {
  CudaCompiler compiler(test::gpu());
  for (const int64_t left : {3, 40, 150}) {
    Workload workload = test::workload_of(window(left, 0) | sink(2), test::shape_of(1, 1, 64));
    workload.pattern.score.scale = 1.0 / static_cast<double>(left);
    const AttentionCase test{workload, packed_geometry({200, left}, {200, left}), LayoutKind::kPacked, 3};
    SCOPED_TRACE(describe(test));
    const CudaKernel kernel = compiler.compile(workload);
    const AttentionErrors errors = run_case(
        test, [&](const AttentionTensors& tensors, const Bindings& bindings) { kernel.run(tensors, bindings); });
    EXPECT_LE(errors.out, 1.5e-2);
    EXPECT_LE(errors.lse, 2e-3);
  }
  EXPECT_EQ(compiler.compilations(), 1);
  compiler.compile(test::workload_of(causal(), test::shape_of(1, 1, 64)));
  EXPECT_EQ(compiler.compilations(), 2);
}

TEST(GpuCompiler, RefusesSchedulesThatNoKernelCanFollow) {
  const CudaKernel kernel = compile_cuda(test::workload_of(causal(), test::shape_of(1, 1, 64)), test::gpu());
  const auto message = [&](const CudaSchedule& schedule) {
    try {
      kernel.bind({}, packed_geometry({10}, {10}), {.packed = true, .schedule = schedule});
    } catch (const InvalidInput& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message({.heads_per_group = 0}), testing::HasSubstr("0 heads together"));
  EXPECT_THAT(message({.heads_per_group = 1, .split_tiles = -1}), testing::HasSubstr("-1 tiles"));
  EXPECT_THAT(message({.heads_per_group = 1, .split_tiles = 4, .split_capacity = -2}), testing::HasSubstr("-2 parts"));
  EXPECT_EQ(message({.heads_per_group = 1, .split_tiles = 0, .split_capacity = 0}), "no error");
}

}  // namespace
}  // namespace harrier
