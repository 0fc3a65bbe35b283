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

Workload deterministic(Workload workload) {
  workload.shape.deterministic = true;
  return backward(std::move(workload));
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
    return {c_view(d_out), c_view(d_q), c_view(d_k), c_view(d_v), nullptr, 0};
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
    // Of sm_90a dQ is added up as it comes, unless that is deterministic.
    const bool is_fixed = is_emulated() || kernel.compilation().workload.shape.deterministic;
    EXPECT_TRUE(!is_fixed || written.queries == expected.queries);
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

/// Random lists of each head, whose columns are split.
void expect_same_bits_of_split_lists(Workload (&of_direction)(Workload), const std::string& architecture) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({kTokens}));
  std::mt19937_64 random(kSeed);
  std::vector<int32_t> table(kHeads * 8 * 8);
  for (int32_t& entry : table) entry = random() % 8 == 0 ? 0 : 1;
  const cuda::DeviceMemory device_table = on_device(table);
  CudaDeviceInputs inputs = packed_inputs(offsets, 1);
  inputs.arrays["blocks"] = {.data = device_table.pointer(), .type = ElementType::kInt32, .shape = {kHeads, 8, 8}};
  const Workload forward = named("table", blocks(64, "blocks") & causal());
  const Workload workload = of_direction(forward);
  const CudaSchedule splitting = {.heads_per_group = 1, .split_tiles = 1, .split_capacity = 64};
  const GradientCase test(forward, inputs);
  const CudaKernel kernel = compile_cuda(workload, gpu(), {.architecture = architecture});
  const ExportCandidate candidate = {
      .architecture = architecture, .plan = kernel.compilation().plan, .schedule = splitting};
  ExportedLibrary exported({{.workload = workload, .candidates = {candidate}}}, {architecture});
  test.expect_same_bits_of_parts(kernel, exported, inputs, splitting);
}

TEST(GpuExportBackward, DeterministicSplitListsGiveTheLibrarysBits) {
  expect_same_bits_of_split_lists(deterministic, own().front());
}

TEST(GpuExportBackward, SplitListsOfThePortableFamilyGiveTheLibrarysBits) {
  expect_same_bits_of_split_lists(backward, architecture_of(Kernels::kPortable));
}

/// A pattern whose scores and softmax read floats, with those on the device and room for their gradients.
struct LearnedCase {
  static constexpr int64_t kLongest = 150;
  struct Array {
    std::string name;
    std::vector<int64_t> shape;
    cuda::DeviceMemory values, gradient;
    int64_t elements = 1;
  };
  cuda::DeviceMemory offsets = on_device(offsets_of({kLongest, 0, 70}));
  CudaDeviceInputs inputs = packed_inputs(offsets, 3, kLongest);
  std::vector<Array> arrays;
  Workload workload = named("learned", window(90, 20));

  LearnedCase() {
    workload.pattern.score = {.scale = 0.125, .softcap = 5.0, .alibi = "slopes", .bias = "bias", .expression = {}};
    workload.pattern.softmax = SoftmaxSinkLogit{"sinks"};
    std::mt19937_64 random(kSeed + 2);
    const std::vector<std::pair<std::string, std::vector<int64_t>>> shapes = {
        {"bias", {3, 1, kLongest, kLongest}}, {"sinks", {kHeads}}, {"slopes", {kHeads}}};
    for (const auto& [name, shape] : shapes) {
      Array array{.name = name, .shape = shape, .values = {}, .gradient = {}};
      for (const int64_t size : shape) array.elements *= size;
      array.values = on_device(random_values(random, array.elements, DataType::kFloat32));
      array.gradient = on_device(std::vector<float>(static_cast<size_t>(array.elements)));
      inputs.arrays[name] = {.data = array.values.pointer(), .type = ElementType::kFloat32, .shape = shape};
      arrays.push_back(std::move(array));
    }
  }

  std::vector<harrier_kernels_array> c_views() const {
    std::vector<harrier_kernels_array> views;
    for (const Array& array : arrays) {
      harrier_kernels_array& view = views.emplace_back();
      view = {array.name.c_str(), array.gradient.pointer(), harrier_kernels_float32, 0, {}};
      for (const int64_t size : array.shape) view.shape[view.rank++] = size;
    }
    return views;
  }

  /// Fills gradients with ones, so that who adds to what was there is found.
  void clear() const {
    for (const Array& array : arrays) {
      overwrite(array.gradient, std::vector<float>(static_cast<size_t>(array.elements), 1.0F));
    }
  }

  std::vector<std::vector<float>> read() const {
    std::vector<std::vector<float>> all;
    for (const Array& array : arrays) {
      std::vector<float>& values = all.emplace_back(static_cast<size_t>(array.elements));
      cuda::copy_to_host(*gpu().device, std::as_writable_bytes(std::span(values)), array.gradient.pointer());
    }
    return all;
  }
};

class GpuExportLearned : public testing::TestWithParam<Kernels> {};

TEST_P(GpuExportLearned, GradientsOfArraysAreTheLibrarys) {
  const std::string architecture = architecture_of(GetParam());
  const LearnedCase learned;
  const GradientCase test(learned.workload, learned.inputs);
  const CudaKernel kernel = compile_cuda(backward(learned.workload), gpu(), {.architecture = architecture});
  CudaGradients gradients = test.views();
  for (const LearnedCase::Array& array : learned.arrays) gradients.arrays[array.name] = array.gradient.pointer();
  learned.clear();
  const CudaLaunch launch =
      kernel.prepare_backward(test.tensors.views(0), gradients, kernel.bind_on_device(learned.inputs));
  const GradientCase::Written expected = test.run([&](cuda::Stream stream) { launch.enqueue(stream); });
  const std::vector<std::vector<float>> expected_arrays = learned.read();

  ExportedLibrary exported({{.workload = backward(learned.workload)}}, {architecture});
  const CCall call(exported, 0, learned.inputs, test.tensors.views(0));
  const std::vector<harrier_kernels_array> views = learned.c_views();
  harrier_kernels_gradients wanted = test.c_views();
  wanted.arrays = views.data();
  wanted.array_count = static_cast<int>(views.size());
  learned.clear();
  const GradientCase::Written written = test.run([&](cuda::Stream stream) {
    harrier_kernels_error error{};
    EXPECT_EQ(exported.backward(exported.kernels(), &call.call, &wanted, stream, &error), 0) << error.message;
  });
  EXPECT_EQ(written.keys, expected.keys);
  EXPECT_EQ(written.values, expected.values);
  const std::vector<std::vector<float>> arrays = learned.read();
  for (size_t i = 0; i < arrays.size(); ++i) {
    SCOPED_TRACE(learned.arrays[i].name);
    float largest = 0, difference = 0;
    for (size_t j = 0; j < arrays[i].size(); ++j) {
      largest = std::max(largest, std::abs(expected_arrays[i][j]));
      difference = std::max(difference, std::abs(arrays[i][j] - expected_arrays[i][j]));
    }
    EXPECT_GT(largest, 0);
    // Sums of one array meet as they come.
    EXPECT_LE(difference, 1e-5F * largest);
  }
}

TEST_P(GpuExportLearned, ABatchWithoutTokensGivesZeros) {
  const std::string architecture = architecture_of(GetParam());
  LearnedCase learned;
  overwrite(learned.offsets, offsets_of({0, 0, 0}));
  const GradientCase test(learned.workload, learned.inputs);
  ExportedLibrary exported({{.workload = backward(learned.workload)}}, {architecture});
  const CCall call(exported, 0, learned.inputs, test.tensors.views(0));
  const std::vector<harrier_kernels_array> views = learned.c_views();
  harrier_kernels_gradients wanted = test.c_views();
  wanted.arrays = views.data();
  wanted.array_count = static_cast<int>(views.size());
  learned.clear();
  test.run([&](cuda::Stream stream) {
    EXPECT_EQ(exported.backward(exported.kernels(), &call.call, &wanted, stream, nullptr), 0);
  });
  for (const std::vector<float>& values : learned.read()) EXPECT_EQ(values, std::vector<float>(values.size()));
}

TEST_P(GpuExportLearned, GradientsThatDoNotFitAreOneLine) {
  const LearnedCase learned;
  const Tensors tensors;
  ExportedLibrary exported({{.workload = backward(learned.workload)}}, {architecture_of(GetParam())});
  const CCall call(exported, 0, learned.inputs, tensors.views(0));
  const harrier_kernels_tensor view = call.call.out;
  const auto refusal = [&](const harrier_kernels_array& array) {
    const harrier_kernels_gradients wanted = {view, view, view, view, &array, 1};
    harrier_kernels_error error{};
    EXPECT_EQ(exported.backward(exported.kernels(), &call.call, &wanted, nullptr, &error),
              harrier_kernels_invalid_input);
    return std::string(error.message);
  };
  const harrier_kernels_array bias = learned.c_views().front();
  harrier_kernels_array unknown = bias, flat = bias, integers = bias, nowhere = bias;
  unknown.name = "offsets";
  flat.rank = 3;
  integers.type = harrier_kernels_int32;
  nowhere.data = 0;
  EXPECT_THAT(refusal(unknown), HasSubstr("@offsets has no gradient"));
  EXPECT_THAT(refusal(flat), HasSubstr("the gradient of @bias has another shape or type"));
  EXPECT_THAT(refusal(integers), HasSubstr("the gradient of @bias has another shape or type"));
  EXPECT_THAT(refusal(nowhere), HasSubstr("the gradient of @bias at 0x0 is not device memory"));
  const harrier_kernels_gradients nothing = {view, view, view, view, nullptr, 2};
  harrier_kernels_error error{};
  exported.backward(exported.kernels(), &call.call, &nothing, nullptr, &error);
  EXPECT_THAT(error.message, HasSubstr("2 gradients of arrays are wanted, but `arrays` is null"));
}

INSTANTIATE_TEST_SUITE_P(Families, GpuExportLearned, testing::Values(Kernels::kOwn, Kernels::kPortable));

TEST(GpuExportBackward, DeterministicGradientsOfArraysAreRefused) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({kTokens}));
  const cuda::DeviceMemory sinks = on_device(std::vector<float>(kHeads));
  CudaDeviceInputs inputs = packed_inputs(offsets, 1);
  inputs.arrays["sinks"] = {.data = sinks.pointer(), .type = ElementType::kFloat32, .shape = {kHeads}};
  Workload workload = named("sinks", causal());
  workload.pattern.softmax = SoftmaxSinkLogit{"sinks"};
  const Tensors tensors;
  ExportedLibrary exported({{.workload = deterministic(workload)}}, own());
  const CCall call(exported, 0, inputs, tensors.views(0));
  const harrier_kernels_tensor view = call.call.out;
  const harrier_kernels_array array = {"sinks", sinks.pointer(), harrier_kernels_float32, 1, {kHeads}};
  const harrier_kernels_gradients wanted = {view, view, view, view, &array, 1};
  harrier_kernels_error error{};
  EXPECT_EQ(exported.backward(exported.kernels(), &call.call, &wanted, nullptr, &error), harrier_kernels_invalid_input);
  EXPECT_THAT(error.message, HasSubstr("and sinks is deterministic: leave them out"));
}

TEST(GpuExportBackward, WhatIsWrongIsOneLine) {
  const Tensors tensors;
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  ExportedLibrary exported({{.workload = backward(window_workload())}, {.workload = causal_workload()}}, own());
  const CCall gradients_call(exported, 0, inputs, tensors.views(0));
  const CCall forward_call(exported, 1, inputs, tensors.views(0));
  const harrier_kernels_tensor view = gradients_call.call.out;
  const harrier_kernels_gradients right = {view, view, view, view, nullptr, 0};
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
