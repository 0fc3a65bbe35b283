// Which of its kernels an export takes, and what it says where it takes none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "exported_call.h"
#include "exported_library.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"
#include "support/setting.h"
#include "support/tensors.h"
#include "test_gpu.h"

namespace harrier::test {
namespace {

using testing::HasSubstr;

TEST(GpuExport, LengthsChooseAmongKernels) {
  const Tensors tensors;
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  const CudaKernel kernel = compile_cuda(window_workload(), gpu());
  CudaPlan other = kernel.compilation().plan;
  other.ctas_per_sm = 1;
  const LengthBucket small{.query_length = 128, .key_length = 128, .batch_heads = 8};
  const LengthBucket large{.query_length = 8192, .key_length = 8192, .batch_heads = 8};
  const ExportWorkload two = {
      .workload = window_workload(),
      .buckets = {small, large},
      .candidates = {{.architecture = own().front(), .plan = kernel.compilation().plan, .microseconds = {1, 2}},
                     {.architecture = own().front(), .plan = other, .microseconds = {2, 1}}}};
  ExportedLibrary exported({two, {.workload = causal_workload()}}, own());
  EXPECT_STREQ(exported.name(0), "window");
  EXPECT_STREQ(exported.name(1), "causal");
  EXPECT_EQ(exported.name(2), nullptr);

  const CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  const CCall call(exported, 0, inputs, tensors.views(0));
  EXPECT_THAT(exported.choice(exported.kernels(), &call.call),
              HasSubstr(print(kernel.compilation().plan, Direction::kForward)));
  const Results expected = run_library(kernel, inputs, tensors, kTokens);
  EXPECT_EQ(run_exported(exported, call, tensors, kTokens), expected);
  harrier_kernels_call longer = call.call;
  longer.query_tokens = longer.key_tokens = longer.longest_query = longer.longest_key = 8000;
  EXPECT_THAT(exported.choice(exported.kernels(), &longer), HasSubstr(print(other, Direction::kForward)));
}

TEST(GpuExport, TheArchitectureChoosesAmongTargets) {
  if (!is_emulated()) GTEST_SKIP() << "a real GPU has one architecture";
  const Tensors tensors;
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  ExportedLibrary exported({{.workload = window_workload()}}, {"sm_80", "sm_90a"});
  const CCall call(exported, 0, inputs, tensors.views(0));
  EXPECT_THAT(exported.choice(exported.kernels(), &call.call), testing::StartsWith("sm_90a, "));

  const Setting ampere("HARRIER_EMULATED_CAPABILITY", "8.6");
  const Setting driver("HARRIER_LIBCUDA", HARRIER_EMULATED_GPU);
  harrier_kernels* portable = nullptr;
  harrier_kernels_error error{};
  ASSERT_EQ(exported.open(0, nullptr, &portable, &error), 0) << error.message;
  EXPECT_THAT(exported.choice(portable, &call.call), testing::StartsWith("sm_80, "));
  harrier_kernels_call again = call.call;
  ASSERT_EQ(exported.workspace(portable, &again, &again.workspace_bytes, &error), 0) << error.message;
  const cuda::DeviceMemory workspace(gpu().device, static_cast<int64_t>(again.workspace_bytes));
  again.workspace = workspace.pointer();
  tensors.clear();
  const cuda::OwnStream stream(gpu().device);
  ASSERT_EQ(exported.launch(portable, &again, stream.get(), &error), 0) << error.message;
  stream.synchronize();
  const CudaKernel on_ampere = compile_cuda(window_workload(), gpu(), {.architecture = "sm_80"});
  const Results found = tensors.read(kTokens);
  EXPECT_EQ(found, run_library(on_ampere, inputs, tensors, kTokens));
  exported.close(portable);
}

std::vector<double> numbers_of(const Results& results) {
  std::vector<uint8_t> bytes(results.out.size() * sizeof(uint16_t));
  std::memcpy(bytes.data(), results.out.data(), bytes.size());
  return decode(bytes, DataType::kBFloat16);
}

TEST(GpuExport, TextAloneServesEveryGpu) {
  const Tensors tensors;
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  ExportedLibrary exported({{.workload = causal_workload()}}, {"compute_80"});
  const CCall call(exported, 0, inputs, tensors.views(0));
  EXPECT_THAT(exported.choice(exported.kernels(), &call.call), testing::StartsWith("compute_80, "));
  const CudaKernel kernel = compile_cuda(causal_workload(), gpu());
  const Results expected = run_library(kernel, inputs, tensors, kTokens);
  const Results found = run_exported(exported, call, tensors, kTokens);
  // Two steps of a bfloat16 near 1: the GPU's own kernels may sum in another order.
  EXPECT_LE(max_error(numbers_of(found), numbers_of(expected)), 1.0 / 64);
}

TEST(GpuExport, TextServesWhereNoMachineCodeDoes) {
  if (!is_emulated()) GTEST_SKIP() << "a real GPU has one architecture";
  ExportedLibrary exported({{.workload = causal_workload()}}, {"sm_90a", "compute_80"});
  const Setting driver("HARRIER_LIBCUDA", HARRIER_EMULATED_GPU);
  harrier_kernels_call call{};
  call.packed = 1;
  for (const auto& [capability, start] :
       {std::pair("9.0", "sm_90a, "), std::pair("12.0", "compute_80, "), std::pair("8.0", "compute_80, ")}) {
    const Setting setting("HARRIER_EMULATED_CAPABILITY", capability);
    harrier_kernels* kernels = nullptr;
    harrier_kernels_error error{};
    ASSERT_EQ(exported.open(0, nullptr, &kernels, &error), 0) << error.message;
    EXPECT_THAT(exported.choice(kernels, &call), testing::StartsWith(start)) << capability;
    exported.close(kernels);
  }
}

/// What opening says under a setting of the environment.
std::string refusal_of_open(const ExportedLibrary& exported, const char* variable, const char* value, int code) {
  const Setting setting(variable, value);
  harrier_kernels* kernels = nullptr;
  harrier_kernels_error error{};
  EXPECT_EQ(exported.open(0, nullptr, &kernels, &error), code) << error.message;
  EXPECT_EQ(kernels, nullptr);
  return error.message;
}

TEST(GpuExport, AMachineWithoutADriverIsToldWhatToInstall) {
  const ExportedLibrary exported({{.workload = causal_workload()}}, own());
  EXPECT_THAT(refusal_of_open(exported, "HARRIER_LIBCUDA", "/no/such/libcuda.so", harrier_kernels_no_driver),
              HasSubstr("install NVIDIA's driver"));
}

TEST(GpuExport, AMachineThatCannotRunItIsToldWhy) {
  if (!is_emulated()) GTEST_SKIP() << "real drivers do not fail when they are asked to";
  const ExportedLibrary exported({{.workload = causal_workload()}}, own());
  const Setting driver("HARRIER_LIBCUDA", HARRIER_EMULATED_GPU);
  const auto refusal = [&](const char* variable, const char* value, int code) {
    return refusal_of_open(exported, variable, value, code);
  };
  EXPECT_THAT(refusal("HARRIER_EMULATED_DRIVER", "11040", harrier_kernels_driver_too_old),
              HasSubstr("the driver is for CUDA 11.4, needed is 12.0: update it"));
  EXPECT_THAT(refusal("HARRIER_EMULATED_DEVICES", "0", harrier_kernels_no_device),
              HasSubstr("no GPU is visible, check CUDA_VISIBLE_DEVICES"));
  EXPECT_THAT(refusal("HARRIER_EMULATED_CAPABILITY", "8.0", harrier_kernels_unsupported),
              HasSubstr("compute capability 8.0 (CUDA_ERROR_NO_BINARY_FOR_GPU): export it with --arch sm_80"));
  EXPECT_THAT(refusal("HARRIER_EMULATED_FAIL", "cuModuleLoadDataEx=200", harrier_kernels_bad_image),
              HasSubstr("CUDA_ERROR_INVALID_IMAGE"));
  EXPECT_THAT(refusal("HARRIER_EMULATED_FAIL", "cuModuleLoadDataEx=2", harrier_kernels_out_of_memory),
              HasSubstr("free device memory"));
}

}  // namespace
}  // namespace harrier::test
