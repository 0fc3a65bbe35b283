// Exported kernels, called from C, give the bits that the library's own launches give.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "exported_library.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"
#include "support/setting.h"
#include "support/tensors.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using test::ExportedLibrary;
using test::gpu;
using testing::HasSubstr;

constexpr int64_t kTokens = 512;
constexpr int64_t kHeads = 2;
constexpr int64_t kDim = 64;
constexpr int64_t kElements = kTokens * kHeads * kDim;
constexpr uint64_t kSeed = 20;

template <typename T>
cuda::DeviceMemory on_device(const std::vector<T>& values) {
  return cuda::copy_to_device(gpu().device, std::as_bytes(std::span(values)));
}

template <typename T>
void overwrite(const cuda::DeviceMemory& memory, const std::vector<T>& values) {
  cuda::copy_to_device(*gpu().device, memory.pointer(), std::as_bytes(std::span(values)));
}

template <typename T>
std::vector<T> from_device(const cuda::DeviceMemory& memory, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  cuda::copy_to_host(*gpu().device, std::as_writable_bytes(std::span(values)), memory.pointer());
  return values;
}

Workload named(const char* name, Mask mask) {
  Workload workload = test::workload_of(std::move(mask), test::shape_of(kHeads, kHeads, kDim));
  workload.name = name;
  return workload;
}

Workload window_workload() { return named("window", window(100, 0) | sink(3)); }

Workload causal_workload() { return named("causal", causal()); }

/// The GPU's own kernels, as exports name their architecture.
std::vector<std::string> own() { return {target_of(gpu()).architecture}; }

/// What a kernel wrote, over ones.
struct Results {
  std::vector<uint16_t> out;
  std::vector<float> lse;
  bool operator==(const Results&) const = default;
};

/// q, k, v, out and lse of kTokens tokens, (token, head, column).
struct Tensors {
  cuda::DeviceMemory q, k, v, out, lse;

  explicit Tensors(uint64_t seed = kSeed) {
    std::mt19937_64 random(seed);
    for (cuda::DeviceMemory* memory : {&q, &k, &v, &out}) {
      *memory = on_device(encode(random_values(random, kElements, DataType::kBFloat16), DataType::kBFloat16));
    }
    lse = on_device(std::vector<float>(kTokens * kHeads));
  }

  void clear() const {
    overwrite(out, std::vector<uint16_t>(static_cast<size_t>(kElements), 0x3f80));
    overwrite(lse, std::vector<float>(static_cast<size_t>(kTokens * kHeads), 1));
  }

  Results read(int64_t tokens) const {
    return {from_device<uint16_t>(out, tokens * kHeads * kDim), from_device<float>(lse, tokens * kHeads)};
  }

  CudaTensors views(int64_t batch_tokens) const {
    const auto view = [&](const cuda::DeviceMemory& memory) {
      return CudaTensor{.data = memory.pointer(),
                        .batch_stride = batch_tokens * kHeads * kDim,
                        .token_stride = kHeads * kDim,
                        .head_stride = kDim};
    };
    return {
        .q = view(q),
        .k = view(k),
        .v = view(v),
        .out = view(out),
        .lse = {
            .data = lse.pointer(), .batch_stride = batch_tokens * kHeads, .head_stride = 1, .token_stride = kHeads}};
  }
};

harrier_kernels_type type_of(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return harrier_kernels_float32;
    case ElementType::kInt64:
      return harrier_kernels_int64;
    case ElementType::kInt32:
      return harrier_kernels_int32;
    default:
      return harrier_kernels_uint8;
  }
}

/// A call in C of what the library is told in C++. The arrays' names live in `inputs`.
struct CCall {
  harrier_kernels_call call{};
  std::vector<harrier_kernels_array> arrays;
  cuda::DeviceMemory workspace;

  CCall(ExportedLibrary& exported, int workload, const CudaDeviceInputs& inputs, const CudaTensors& tensors) {
    for (const auto& [name, array] : inputs.arrays) {
      harrier_kernels_array given{.name = name.c_str(),
                                  .data = array.data,
                                  .type = type_of(array.type),
                                  .rank = static_cast<int>(array.shape.size()),
                                  .shape = {}};
      std::ranges::copy(array.shape, given.shape);
      arrays.push_back(given);
    }
    const auto view = [](const CudaTensor& tensor) {
      return harrier_kernels_tensor{tensor.data, tensor.batch_stride, tensor.token_stride, tensor.head_stride};
    };
    call.workload = workload;
    call.packed = inputs.packed ? 1 : 0;
    call.batch = inputs.batch;
    call.query_tokens = inputs.query_tokens;
    call.key_tokens = inputs.key_tokens;
    call.longest_query = inputs.longest_query;
    call.longest_key = inputs.longest_key;
    call.cu_query = inputs.cu_query;
    call.cu_key = inputs.cu_key;
    call.query_valid = inputs.query_valid;
    call.key_valid = inputs.key_valid;
    call.q = view(tensors.q);
    call.k = view(tensors.k);
    call.v = view(tensors.v);
    call.out = view(tensors.out);
    call.lse = {tensors.lse.data, tensors.lse.batch_stride, tensors.lse.head_stride, tensors.lse.token_stride};
    call.arrays = arrays.data();
    call.array_count = static_cast<int>(arrays.size());
    harrier_kernels_error error{};
    EXPECT_EQ(exported.workspace(exported.kernels(), &call, &call.workspace_bytes, &error), 0) << error.message;
    workspace = cuda::DeviceMemory(gpu().device, static_cast<int64_t>(call.workspace_bytes));
    call.workspace = workspace.pointer();
  }
  CCall(const CCall&) = delete;
  CCall& operator=(const CCall&) = delete;
};

void launch(ExportedLibrary& exported, const CCall& call, cuda::Stream stream) {
  harrier_kernels_error error{};
  EXPECT_EQ(exported.launch(exported.kernels(), &call.call, stream, &error), 0) << error.message;
}

Results run_exported(ExportedLibrary& exported, const CCall& call, const Tensors& tensors, int64_t tokens) {
  tensors.clear();
  const cuda::OwnStream stream(gpu().device);
  launch(exported, call, stream.get());
  stream.synchronize();
  return tensors.read(tokens);
}

Results run_library(const CudaKernel& kernel, const CudaDeviceInputs& inputs, const Tensors& tensors, int64_t tokens,
                    const CudaBindOptions& options = {}) {
  const CudaLaunch fixed =
      kernel.prepare(tensors.views(inputs.packed ? 0 : inputs.longest_query), kernel.bind_on_device(inputs, options));
  tensors.clear();
  const cuda::CurrentContext current(*gpu().device);
  const cuda::OwnStream stream(gpu().device);
  fixed.enqueue(stream.get());
  stream.synchronize();
  return tensors.read(tokens);
}

std::vector<int32_t> offsets_of(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> offsets = {0};
  for (const int64_t length : lengths) offsets.push_back(offsets.back() + static_cast<int32_t>(length));
  return offsets;
}

CudaDeviceInputs packed_inputs(const cuda::DeviceMemory& offsets, int64_t batch, int64_t longest = kTokens) {
  CudaDeviceInputs inputs;
  inputs.batch = batch;
  inputs.query_tokens = inputs.key_tokens = kTokens;
  inputs.longest_query = inputs.longest_key = longest;
  inputs.cu_query = offsets.pointer();
  return inputs;
}

/// The workload, exported, and the library's kernel on the same inputs.
void expect_same_bits(const Workload& workload, const CudaDeviceInputs& inputs) {
  const Tensors tensors;
  const Results expected = run_library(compile_cuda(workload, gpu()), inputs, tensors, kTokens);
  ExportedLibrary exported({{.workload = workload}}, own());
  const CCall call(exported, 0, inputs, tensors.views(inputs.packed ? 0 : inputs.longest_query));
  EXPECT_EQ(run_exported(exported, call, tensors, kTokens), expected);
}

TEST(GpuExport, AWindowGivesTheLibrarysBitsWhateverTheLengths) {
  const CudaKernel kernel = compile_cuda(window_workload(), gpu());
  const Tensors tensors;
  const std::vector<std::vector<int64_t>> batches = {{200, 0, 300}, {1, 63, 65}, {512, 0, 0}, {0, 0, 0}};
  const cuda::DeviceMemory offsets = on_device(offsets_of(batches.front()));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 3);
  ExportedLibrary exported({{.workload = window_workload()}}, own());
  const CCall call(exported, 0, inputs, tensors.views(0));
  for (const std::vector<int64_t>& lengths : batches) {
    SCOPED_TRACE(testing::PrintToString(lengths));
    overwrite(offsets, offsets_of(lengths));
    const int64_t tokens = offsets_of(lengths).back();
    EXPECT_EQ(run_exported(exported, call, tensors, tokens), run_library(kernel, inputs, tensors, tokens));
  }
}

TEST(GpuExport, ABlockTableOfEachHeadGivesTheLibrarysBits) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  std::mt19937_64 random(kSeed);
  std::vector<int32_t> table(kHeads * 8 * 8);
  for (int32_t& entry : table) entry = random() % 3 == 0 ? 1 : 0;
  const cuda::DeviceMemory device_table = on_device(table);
  const Workload workload = named("table", blocks(64, "blocks") & causal());
  CudaDeviceInputs inputs = packed_inputs(offsets, 2, 300);
  inputs.arrays["blocks"] = {.data = device_table.pointer(), .type = ElementType::kInt32, .shape = {kHeads, 8, 8}};
  expect_same_bits(workload, inputs);
  // The same table for both heads: then they share their lists.
  inputs.arrays["blocks"].shape = {8, 8};
  expect_same_bits(workload, inputs);
}

TEST(GpuExport, DocumentsGiveTheLibrarysBits) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({130, 382}));
  std::vector<int32_t> ids(kTokens);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * i % 7 < 3 ? i / 100 : i / 60);
  const cuda::DeviceMemory device_ids = on_device(ids);
  CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  inputs.arrays["ids"] = {.data = device_ids.pointer(), .type = ElementType::kInt32, .shape = {kTokens}};
  expect_same_bits(named("documents", documents("ids") & causal()), inputs);
}

TEST(GpuExport, APaddedBatchGivesTheLibrarysBits) {
  const cuda::DeviceMemory valid = on_device(std::vector<int32_t>{256, 100});
  CudaDeviceInputs inputs;
  inputs.batch = 2;
  inputs.packed = false;
  inputs.longest_query = inputs.longest_key = kTokens / 2;
  inputs.query_valid = inputs.key_valid = valid.pointer();
  expect_same_bits(causal_workload(), inputs);
}

TEST(GpuExport, SplitRowsGiveTheLibrarysBits) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({kTokens}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 1);
  const Tensors tensors;
  const CudaSchedule splitting = {.heads_per_group = 2, .split_tiles = 2, .split_capacity = 32};
  const CudaKernel kernel = compile_cuda(causal_workload(), gpu());
  const Results expected = run_library(kernel, inputs, tensors, kTokens, {.packed = true, .schedule = splitting});
  // Parts add up in another order than whole rows: were the bits the same, nothing would have been split.
  const Results whole = run_library(kernel, inputs, tensors, kTokens, {.packed = true, .schedule = CudaSchedule{}});
  ASSERT_NE(expected.out, whole.out);
  const ExportCandidate candidate = {
      .architecture = own().front(), .plan = kernel.compilation().plan, .schedule = splitting};
  ExportedLibrary exported({{.workload = causal_workload(), .candidates = {candidate}}}, own());
  const CCall call(exported, 0, inputs, tensors.views(0));
  EXPECT_EQ(run_exported(exported, call, tensors, kTokens), expected);
  EXPECT_THAT(exported.choice(exported.kernels(), &call.call), HasSubstr("rows past 2 key tiles split"));
}

TEST(GpuExport, ALaunchInAGraphSeesNewLengths) {
  const Tensors tensors;
  const cuda::DeviceMemory offsets = on_device(offsets_of({100, 412}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  const CudaKernel kernel = compile_cuda(causal_workload(), gpu());
  ExportedLibrary exported({{.workload = causal_workload()}}, own());
  const CCall call(exported, 0, inputs, tensors.views(0));
  const cuda::CurrentContext current(*gpu().device);
  const cuda::Driver& driver = gpu().device->driver();
  const cuda::OwnStream stream(gpu().device);
  cuda::Graph graph = nullptr;
  cuda::GraphExec exec = nullptr;
  ASSERT_EQ(driver.stream_begin_capture(stream.get(), 0), cuda::kSuccess);
  launch(exported, call, stream.get());
  ASSERT_EQ(driver.stream_end_capture(stream.get(), &graph), cuda::kSuccess);
  ASSERT_EQ(driver.graph_instantiate(&exec, graph, 0), cuda::kSuccess);
  overwrite(offsets, offsets_of({256, 256}));
  tensors.clear();
  ASSERT_EQ(driver.graph_launch(exec, stream.get()), cuda::kSuccess);
  stream.synchronize();
  const Results found = tensors.read(kTokens);
  EXPECT_EQ(found, run_library(kernel, inputs, tensors, kTokens));
  driver.graph_exec_destroy(exec);
  driver.graph_destroy(graph);
}

TEST(GpuExport, LengthsChooseAmongKernelsAndTheArchitectureAmongTargets) {
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
      .candidates = {{.architecture = "sm_90a", .plan = kernel.compilation().plan, .microseconds = {1, 2}},
                     {.architecture = "sm_90a", .plan = other, .microseconds = {2, 1}}}};
  ExportedLibrary exported({two, {.workload = causal_workload()}}, {"sm_80", "sm_90a"});
  EXPECT_STREQ(exported.name(0), "window");
  EXPECT_STREQ(exported.name(1), "causal");
  EXPECT_EQ(exported.name(2), nullptr);

  const CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  const CCall call(exported, 0, inputs, tensors.views(0));
  EXPECT_THAT(exported.choice(exported.kernels(), &call.call), HasSubstr(print(kernel.compilation().plan)));
  const Results expected = run_library(kernel, inputs, tensors, kTokens);
  EXPECT_EQ(run_exported(exported, call, tensors, kTokens), expected);
  harrier_kernels_call longer = call.call;
  longer.query_tokens = longer.key_tokens = longer.longest_query = longer.longest_key = 8000;
  EXPECT_THAT(exported.choice(exported.kernels(), &longer), HasSubstr(print(other)));

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

TEST(GpuExport, TextServesWhereNoMachineCodeDoes) {
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

TEST(GpuExport, WhatIsWrongIsOneLineAndACode) {
  const Tensors tensors;
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  const cuda::DeviceMemory small = on_device(std::vector<int32_t>(4));
  ExportedLibrary exported({{.workload = named("table", blocks(64, "blocks") & causal())}}, own());
  CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  const cuda::DeviceMemory table = on_device(std::vector<int32_t>(64));
  inputs.arrays["blocks"] = {.data = table.pointer(), .type = ElementType::kInt32, .shape = {8, 8}};
  const CCall right(exported, 0, inputs, tensors.views(0));
  const auto refusal = [&](const auto& change) {
    harrier_kernels_call call = right.call;
    harrier_kernels_array array = right.arrays.front();
    call.arrays = &array;
    change(call, array);
    harrier_kernels_error error{};
    const int code = exported.launch(exported.kernels(), &call, nullptr, &error);
    EXPECT_EQ(code, error.code);
    EXPECT_EQ(code, harrier_kernels_invalid_input) << error.message;
    EXPECT_EQ(std::string(error.message).find('\n'), std::string::npos);
    return std::string(error.message);
  };
  using Call = harrier_kernels_call;
  using Array = harrier_kernels_array;
  EXPECT_THAT(refusal([](Call& call, Array&) { call.workload = 7; }), HasSubstr("workload 7 is given, there are 1"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.array_count = 0; }), HasSubstr("@blocks of the pattern is not"));
  EXPECT_THAT(refusal([](Call&, Array& array) { array.name = "other"; }), HasSubstr("names no such array"));
  EXPECT_THAT(refusal([](Call&, Array& array) { array.type = harrier_kernels_float32; }), HasSubstr("float32"));
  EXPECT_THAT(refusal([](Call&, Array& array) { array.rank = 5; }), HasSubstr("@blocks has rank 5"));
  EXPECT_THAT(refusal([](Call&, Array& array) { array.shape[0] = 7; }), HasSubstr("the longest sequence needs 8"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.cu_query = 0; }), HasSubstr("cu_query"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.workspace_bytes -= 1; }), HasSubstr("the workspace has"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.workspace += 16; }), HasSubstr("a multiple of 256"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.q.token_stride = 12; }),
              HasSubstr("q has a stride of 12 elements"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.v.data += 8; }), HasSubstr("v starts at"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.batch = -1; }), HasSubstr("-1, expected 0 to 2^31 - 2"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.longest_key = int64_t{1} << 27; }), HasSubstr("134217728 tokens"));
  EXPECT_THAT(refusal([](Call&, Array& array) {
                static int on_host[64];
                array.data = reinterpret_cast<uint64_t>(on_host);
              }),
              HasSubstr("is not device memory: copy it to GPU 0"));
}

TEST(GpuExport, AMachineThatCannotRunItIsToldWhy) {
  ExportedLibrary exported({{.workload = causal_workload()}}, own());
  const auto refusal = [&](const char* variable, const char* value, int code) {
    const Setting driver("HARRIER_LIBCUDA", HARRIER_EMULATED_GPU);
    const Setting setting(variable, value);
    harrier_kernels* kernels = nullptr;
    harrier_kernels_error error{};
    EXPECT_EQ(exported.open(0, nullptr, &kernels, &error), code) << error.message;
    EXPECT_EQ(kernels, nullptr);
    return std::string(error.message);
  };
  EXPECT_THAT(refusal("HARRIER_LIBCUDA", "/no/such/libcuda.so", harrier_kernels_no_driver),
              HasSubstr("install NVIDIA's driver"));
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
}  // namespace harrier
