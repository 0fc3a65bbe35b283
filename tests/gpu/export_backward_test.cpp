// Exported kernels of gradients, called from C, give the bits that the library's own launches give.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "exported_call.h"
#include "exported_library.h"
#include "support/tensors.h"
#include "test_gpu.h"

namespace harrier::test {
namespace {

using testing::HasSubstr;

Workload backward(Workload workload) {
  workload.shape.direction = Direction::kBackward;
  return workload;
}

std::vector<uint16_t> read(const cuda::DeviceMemory& memory) {
  std::vector<uint16_t> values(static_cast<size_t>(kElements));
  cuda::copy_to_host(*gpu().device, std::as_writable_bytes(std::span(values)), memory.pointer());
  return values;
}

/// The tensors of a forward launch that has run, d_out, and room for gradients.
struct GradientCase {
  Tensors tensors;
  cuda::DeviceMemory d_out, d_q, d_k, d_v;

  GradientCase(const Workload& forward, const CudaDeviceInputs& inputs) {
    std::mt19937_64 random(kSeed + 1);
    for (cuda::DeviceMemory* memory : {&d_out, &d_q, &d_k, &d_v}) {
      *memory = on_device(encode(random_values(random, kElements, DataType::kBFloat16), DataType::kBFloat16));
    }
    run_forward(forward, inputs);
  }

  void run_forward(const Workload& forward, const CudaDeviceInputs& inputs) const {
    test::run_library(compile_cuda(forward, gpu()), inputs, tensors, kTokens);
  }

  static CudaTensor view(const cuda::DeviceMemory& memory) {
    return {.data = memory.pointer(), .batch_stride = 0, .token_stride = kHeads * kDim, .head_stride = kDim};
  }
  CudaGradients views() const { return {.d_out = view(d_out), .d_q = view(d_q), .d_k = view(d_k), .d_v = view(d_v)}; }
  harrier_kernels_gradients c_views() const {
    const auto c_view = [](const cuda::DeviceMemory& memory) {
      return harrier_kernels_tensor{memory.pointer(), 0, kHeads * kDim, kDim};
    };
    return {c_view(d_out), c_view(d_q), c_view(d_k), c_view(d_v)};
  }

  /// Gradients over ones: d_k and d_v, and d_q.
  struct Written {
    std::vector<uint16_t> keys, values, queries;
  };
  template <typename Launch>
  Written run(const Launch& enqueue) const {
    for (const cuda::DeviceMemory* memory : {&d_q, &d_k, &d_v}) {
      overwrite(*memory, std::vector<uint16_t>(static_cast<size_t>(kElements), 0x3f80));
    }
    const cuda::CurrentContext current(*gpu().device);
    const cuda::OwnStream stream(gpu().device);
    enqueue(stream.get());
    stream.synchronize();
    return {read(d_k), read(d_v), read(d_q)};
  }

  Written run_library(const CudaKernel& kernel, const CudaDeviceInputs& inputs, const CudaBindOptions& options) const {
    const CudaLaunch fixed = kernel.prepare_backward(tensors.views(0), views(), kernel.bind_on_device(inputs, options));
    return run([&](cuda::Stream stream) { fixed.enqueue(stream); });
  }

  /// Parts add up in another order than whole columns: were the bits the same, nothing would have been split.
  void expect_same_bits_of_parts(const CudaKernel& kernel, ExportedLibrary& exported, const CudaDeviceInputs& inputs,
                                 const CudaSchedule& splitting) const {
    const Written split = run_library(kernel, inputs, {.packed = true, .schedule = splitting});
    EXPECT_NE(split.keys, run_library(kernel, inputs, {.packed = true, .schedule = CudaSchedule{}}).keys);
    expect_same_bits(kernel, exported, inputs, {.packed = true, .schedule = splitting});
  }

  void expect_same_bits(const CudaKernel& kernel, ExportedLibrary& exported, const CudaDeviceInputs& inputs,
                        const CudaBindOptions& options = {}) const {
    const Written expected = run_library(kernel, inputs, options);
    const CCall call(exported, 0, inputs, tensors.views(0));
    const harrier_kernels_gradients gradients = c_views();
    const Written written = run([&](cuda::Stream stream) {
      harrier_kernels_error error{};
      EXPECT_EQ(exported.backward(exported.kernels(), &call.call, &gradients, stream, &error), 0) << error.message;
    });
    EXPECT_EQ(written.keys, expected.keys);
    EXPECT_EQ(written.values, expected.values);
    // Of sm_90a dQ is added up as it comes.
    EXPECT_TRUE(!is_emulated() || written.queries == expected.queries);
    EXPECT_NE(written.queries, std::vector<uint16_t>(static_cast<size_t>(kElements), 0x3f80));
  }
};

TEST(GpuExportBackward, AWindowGivesTheLibrarysBitsWhateverTheLengths) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({200, 0, 312}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 3);
  const GradientCase test(window_workload(), inputs);
  const CudaKernel kernel = compile_cuda(backward(window_workload()), gpu());
  ExportedLibrary exported({{.workload = backward(window_workload())}}, own());
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{200, 0, 312}, {1, 63, 65}}) {
    SCOPED_TRACE(testing::PrintToString(lengths));
    overwrite(offsets, offsets_of(lengths));
    test.run_forward(window_workload(), inputs);
    test.expect_same_bits(kernel, exported, inputs);
  }
}

TEST(GpuExportBackward, SplitColumnsGiveTheLibrarysBits) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({kTokens}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 1);
  const CudaSchedule splitting = {.heads_per_group = 2, .split_tiles = 1, .split_capacity = 64};
  const GradientCase test(causal_workload(), inputs);
  const CudaKernel kernel = compile_cuda(backward(causal_workload()), gpu());
  const ExportCandidate candidate = {
      .architecture = own().front(), .plan = kernel.compilation().plan, .schedule = splitting};
  ExportedLibrary exported({{.workload = backward(causal_workload()), .candidates = {candidate}}}, own());
  test.expect_same_bits_of_parts(kernel, exported, inputs, splitting);
}

TEST(GpuExportBackward, SplitListsOfThePortableFamilyGiveTheLibrarysBits) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({kTokens}));
  std::mt19937_64 random(kSeed);
  std::vector<int32_t> table(kHeads * 8 * 8);
  for (int32_t& entry : table) entry = random() % 8 == 0 ? 0 : 1;
  const cuda::DeviceMemory device_table = on_device(table);
  CudaDeviceInputs inputs = packed_inputs(offsets, 1);
  inputs.arrays["blocks"] = {.data = device_table.pointer(), .type = ElementType::kInt32, .shape = {kHeads, 8, 8}};
  const Workload workload = named("table", blocks(64, "blocks") & causal());
  const CudaSchedule splitting = {.heads_per_group = 1, .split_tiles = 1, .split_capacity = 64};
  const GradientCase test(workload, inputs);
  const std::string portable = architecture_of(Kernels::kPortable);
  const CudaKernel kernel = compile_cuda(backward(workload), gpu(), {.architecture = portable});
  const ExportCandidate candidate = {
      .architecture = portable, .plan = kernel.compilation().plan, .schedule = splitting};
  ExportedLibrary exported({{.workload = backward(workload), .candidates = {candidate}}}, {portable});
  test.expect_same_bits_of_parts(kernel, exported, inputs, splitting);
}

TEST(GpuExportBackward, WhatIsWrongIsOneLine) {
  const Tensors tensors;
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  ExportedLibrary exported({{.workload = backward(window_workload())}, {.workload = causal_workload()}}, own());
  const CCall gradients_call(exported, 0, inputs, tensors.views(0));
  const CCall forward_call(exported, 1, inputs, tensors.views(0));
  const harrier_kernels_tensor view = gradients_call.call.out;
  const harrier_kernels_gradients right = {view, view, view, view};
  harrier_kernels_error error{};
  EXPECT_EQ(exported.launch(exported.kernels(), &gradients_call.call, nullptr, &error), harrier_kernels_invalid_input);
  EXPECT_THAT(error.message, HasSubstr("window has direction backward: call harrier_kernels_backward"));
  const auto refusal = [&](const harrier_kernels_call& call, const harrier_kernels_gradients* gradients) {
    EXPECT_EQ(exported.backward(exported.kernels(), &call, gradients, nullptr, &error), harrier_kernels_invalid_input);
    return std::string(error.message);
  };
  EXPECT_THAT(refusal(forward_call.call, &right),
              HasSubstr("causal has direction forward: call harrier_kernels_launch"));
  EXPECT_THAT(refusal(gradients_call.call, nullptr), HasSubstr("`gradients` is null"));
  harrier_kernels_gradients uneven = right;
  uneven.d_k.token_stride = 3;
  EXPECT_THAT(refusal(gradients_call.call, &uneven), HasSubstr("d_k has a stride of 3 elements"));
  harrier_kernels_call without_lse = gradients_call.call;
  without_lse.lse.data = 0;
  EXPECT_THAT(refusal(without_lse, &right), HasSubstr("lse at 0x0 is not device memory"));
}

}  // namespace
}  // namespace harrier::test
