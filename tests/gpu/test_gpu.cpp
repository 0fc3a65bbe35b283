#include "test_gpu.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace harrier::test {
namespace {

/// What rounding probabilities and outputs to 16 bits may cost, relative to max(1, |expected|).
double output_tolerance(DataType dtype) { return dtype == DataType::kBFloat16 ? 1.5e-2 : 2.5e-3; }

constexpr double kLseTolerance = 2e-3;

void expect_close(const AttentionCase& test, const AttentionErrors& errors) {
  EXPECT_LE(errors.out, output_tolerance(test.workload.shape.dtype));
  EXPECT_LE(errors.lse, kLseTolerance);
  EXPECT_TRUE(errors.canaries_intact) << "something was written outside the outputs";
}

}  // namespace

bool is_emulated() {
  const char* wanted = std::getenv("HARRIER_TEST_GPU");
  return wanted == nullptr || std::string(wanted) != "real";
}

bool is_thorough() { return !is_emulated() || std::getenv("HARRIER_TEST_THOROUGH") != nullptr; }

const Gpu& gpu() {
  static const Gpu opened = open_gpu(
      is_emulated() ? GpuOptions{.ordinal = 0, .libcuda = HARRIER_EMULATED_GPU, .libnvrtc = HARRIER_EMULATED_GPU}
                    : GpuOptions{});
  return opened;
}

std::string architecture_of(Kernels kernels) {
  const cuda::DeviceFacts& facts = gpu().device->facts();
  if (kernels == Kernels::kOwn) return cuda::architecture_of(facts);
  return "sm_" + std::to_string(10 * facts.capability_major + facts.capability_minor);
}

void expect_matches_oracle(const AttentionCase& test, Kernels kernels, const CudaCompileOptions& options) {
  SCOPED_TRACE(describe(test) + architecture_of(kernels));
  const CudaKernel kernel = compile_for(test, kernels, options);
  SCOPED_TRACE(print(kernel.compilation().plan, kernel.compilation().workload.shape.direction));
  expect_close(test, run_case(test, [&](const AttentionTensors& tensors, const Bindings& bindings) {
                 kernel.run(tensors, bindings);
               }));
}

void expect_split_rows_match_the_oracle(const AttentionCase& test, const CudaSchedule& schedule, Kernels kernels) {
  SCOPED_TRACE(describe(test) + architecture_of(kernels));
  const CudaKernel kernel = compile_for(test, kernels, {});
  int64_t split_rows = 0;
  expect_close(test, run_case(test, [&](const AttentionTensors& tensors, const Bindings& bindings) {
                 split_rows = kernel.run(tensors, bindings, {}, schedule).split_rows;
               }));
  EXPECT_GT(split_rows, 0);
}

void expect_gradients_are_right(const AttentionCase& test, const BackwardErrors& errors) {
  // P and dS are rounded before products, too, and summed over as many as 200 queries.
  const double tolerance = 2 * backward_tolerance_of(test.workload.shape.dtype);
  EXPECT_LE(errors.d_q, tolerance);
  EXPECT_LE(errors.d_k, tolerance);
  EXPECT_LE(errors.d_v, tolerance);
  EXPECT_LE(errors.d_arrays, tolerance);
  EXPECT_TRUE(errors.canaries_intact);
  EXPECT_TRUE(errors.empty_is_zero);
}

CudaKernel compile_for(const AttentionCase& test, Kernels kernels, CudaCompileOptions options) {
  options.architecture = architecture_of(kernels);
  try {
    return compile_cuda(test.workload, gpu(), options);
  } catch (const ToolchainError& error) {
    ADD_FAILURE() << error.what() << "\n" << error.log();
    throw;
  }
}

std::vector<uint8_t> expect_gradients_match_the_oracle(const AttentionCase& test, Kernels kernels,
                                                       const CudaCompileOptions& options,
                                                       const std::optional<CudaSchedule>& schedule) {
  SCOPED_TRACE(describe(test) + architecture_of(kernels));
  AttentionCase backward = test;
  backward.workload.shape.direction = Direction::kBackward;
  const CudaKernel kernel = compile_for(backward, kernels, options);
  SCOPED_TRACE(print(kernel.compilation().plan, kernel.compilation().workload.shape.direction));
  int64_t split = 0;
  const BackwardErrors errors = run_backward_case(
      test, [&](const AttentionTensors& tensors, const AttentionGradients& gradients, const Bindings& bindings) {
        split = kernel.run_backward(tensors, gradients, bindings, {}, schedule).split_rows;
      });
  expect_gradients_are_right(test, errors);
  EXPECT_TRUE(!schedule || split > 0) << "the schedule must split some row";
  return errors.gradients;
}

Workload workload_of(Mask mask, Shape shape) {
  if (shape.dtype == DataType::kFloat32) shape.dtype = DataType::kBFloat16;
  return {.name = "test", .shape = shape, .pattern = {.mask = std::move(mask)}, .lengths = FixedLength{256}};
}

Shape shape_of(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t value_dim) {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .head_dim = head_dim,
          .value_dim = value_dim == 0 ? head_dim : value_dim,
          .dtype = DataType::kBFloat16};
}

}  // namespace harrier::test
