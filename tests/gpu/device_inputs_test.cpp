// Lengths and arrays that live on the device: every launch builds its lists and order from what they hold then, and
// computes the same bits as a binding that saw them on the host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"
#include "support/tensors.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using test::gpu;

constexpr int64_t kTokens = 512;
constexpr int64_t kHeads = 2;
constexpr int64_t kDim = 64;
constexpr int64_t kElements = kTokens * kHeads * kDim;

template <typename T>
cuda::DeviceMemory on_device(const std::vector<T>& values) {
  return cuda::copy_to_device(gpu().device, std::as_bytes(std::span(values)));
}

template <typename T>
void overwrite(const cuda::DeviceMemory& memory, const std::vector<T>& values) {
  cuda::copy_to_device(*gpu().device, memory.pointer(), std::as_bytes(std::span(values)));
}

/// Packed q, k, v and out of kTokens tokens.
struct Tensors {
  cuda::DeviceMemory q, k, v, out;

  explicit Tensors(uint64_t seed) {
    std::mt19937_64 random(seed);
    for (cuda::DeviceMemory* memory : {&q, &k, &v, &out}) {
      *memory = on_device(encode(random_values(random, kElements, DataType::kBFloat16), DataType::kBFloat16));
    }
  }

  CudaTensors views() const {
    const auto view = [](const cuda::DeviceMemory& memory) {
      return CudaTensor{
          .data = memory.pointer(), .batch_stride = 0, .token_stride = kHeads * kDim, .head_stride = kDim};
    };
    return {.q = view(q), .k = view(k), .v = view(v), .out = view(out), .lse = {}};
  }

  /// The first `tokens` rows of what `launch` writes over ones.
  std::vector<uint16_t> run(const CudaLaunch& launch, int64_t tokens, bool rebuild = true) const {
    overwrite(out, std::vector<uint16_t>(static_cast<size_t>(kElements), 0x3f80));
    const cuda::CurrentContext current(*gpu().device);
    const cuda::OwnStream stream(gpu().device);
    launch.enqueue(stream.get(), rebuild);
    stream.synchronize();
    std::vector<uint16_t> written(static_cast<size_t>(tokens * kHeads * kDim));
    cuda::copy_to_host(*gpu().device, std::as_writable_bytes(std::span(written)), out.pointer());
    return written;
  }
};

std::vector<int32_t> offsets_of(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> offsets = {0};
  for (const int64_t length : lengths) offsets.push_back(offsets.back() + static_cast<int32_t>(length));
  return offsets;
}

CudaDeviceInputs inputs_of(const cuda::DeviceMemory& offsets, int64_t batch, int64_t longest) {
  CudaDeviceInputs inputs;
  inputs.batch = batch;
  inputs.query_tokens = inputs.key_tokens = kTokens;
  inputs.longest_query = inputs.longest_key = longest;
  inputs.cu_query = offsets.pointer();
  return inputs;
}

int64_t sum(const std::vector<int64_t>& lengths) { return offsets_of(lengths).back(); }

TEST(GpuDeviceInputs, LengthsMayChangeBetweenLaunches) {
  const CudaKernel kernel =
      compile_cuda(test::workload_of(window(100, 0) | sink(3), test::shape_of(kHeads, kHeads, kDim)), gpu());
  const Tensors tensors(1);
  const std::vector<std::vector<int64_t>> batches = {
      {200, 0, 300}, {1, 63, 65}, {512, 0, 0}, {0, 0, 0}, {128, 128, 256}};
  const cuda::DeviceMemory offsets = on_device(offsets_of(batches.front()));
  const CudaLaunch launch = kernel.prepare(tensors.views(), kernel.bind_on_device(inputs_of(offsets, 3, kTokens)));
  for (const std::vector<int64_t>& lengths : batches) {
    SCOPED_TRACE(testing::PrintToString(lengths));
    overwrite(offsets, offsets_of(lengths));
    const std::vector<uint16_t> found = tensors.run(launch, sum(lengths));
    const CudaLaunch fixed = kernel.prepare(tensors.views(), kernel.bind({}, packed_geometry(lengths, lengths)));
    EXPECT_EQ(found, tensors.run(fixed, sum(lengths)));
  }
}

TEST(GpuDeviceInputs, ABatchOfNothingWritesNothing) {
  const CudaKernel kernel =
      compile_cuda(test::workload_of(window(100, 0), test::shape_of(kHeads, kHeads, kDim)), gpu());
  const Tensors tensors(1);
  const cuda::DeviceMemory offsets = on_device(std::vector<int32_t>{0});
  for (const bool packed : {true, false}) {
    SCOPED_TRACE(packed ? "packed" : "padded");
    CudaDeviceInputs inputs;
    inputs.packed = packed;
    inputs.longest_query = inputs.longest_key = packed ? 0 : kTokens;
    if (packed) inputs.cu_query = offsets.pointer();
    const CudaSchedule schedule{.heads_per_group = 1, .split_tiles = 1, .split_capacity = 64};
    const CudaLaunch launch =
        kernel.prepare(tensors.views(), kernel.bind_on_device(inputs, {.packed = packed, .schedule = schedule}));
    EXPECT_EQ(launch.grid(), 0);
    EXPECT_THAT(tensors.run(launch, kTokens), testing::Each(0x3f80));
  }
}

TEST(GpuDeviceInputs, TablesMayChangeBetweenLaunches) {
  const CudaKernel kernel =
      compile_cuda(test::workload_of(blocks(64, "table") & causal(), test::shape_of(kHeads, kHeads, kDim)), gpu());
  const Tensors tensors(2);
  const std::vector<int64_t> lengths = {300, 212};
  const cuda::DeviceMemory offsets = on_device(offsets_of(lengths));
  std::mt19937_64 random(3);
  std::vector<int32_t> table(kHeads * 8 * 8);
  const cuda::DeviceMemory device_table = on_device(table);
  CudaDeviceInputs inputs = inputs_of(offsets, 2, 300);
  inputs.arrays["table"] = {.data = device_table.pointer(), .type = ElementType::kInt32, .shape = {kHeads, 8, 8}};
  const CudaLaunch launch = kernel.prepare(tensors.views(), kernel.bind_on_device(inputs));
  for (int round = 0; round < 3; ++round) {
    for (int32_t& entry : table) entry = random() % 3 == 0 ? 1 : 0;
    overwrite(device_table, table);
    const std::vector<uint16_t> found = tensors.run(launch, kTokens);
    const Bindings bindings = {{"table", {.data = table.data(), .type = ElementType::kInt32, .shape = {kHeads, 8, 8}}}};
    const CudaLaunch fixed = kernel.prepare(tensors.views(), kernel.bind(bindings, packed_geometry(lengths, lengths)));
    EXPECT_EQ(found, tensors.run(fixed, kTokens)) << "round " << round;
  }
}

TEST(GpuDeviceInputs, ListsServeAgainWhereNothingIsBuiltAnew) {
  const CudaKernel kernel =
      compile_cuda(test::workload_of(blocks(64, "table"), test::shape_of(kHeads, kHeads, kDim)), gpu());
  const Tensors tensors(5);
  const cuda::DeviceMemory offsets = on_device(offsets_of({kTokens}));
  std::vector<int32_t> table(8 * 8);
  for (size_t i = 0; i < table.size(); ++i) table[i] = i % 3 == 0 ? 1 : 0;
  const cuda::DeviceMemory device_table = on_device(table);
  CudaDeviceInputs inputs = inputs_of(offsets, 1, kTokens);
  inputs.arrays["table"] = {.data = device_table.pointer(), .type = ElementType::kInt32, .shape = {1, 8, 8}};
  const CudaBinding bound = kernel.bind_on_device(inputs);
  const std::vector<uint16_t> before = tensors.run(kernel.prepare(tensors.views(), bound), kTokens);
  // Another launch of the binding, which reads the table by its lists alone.
  overwrite(device_table, std::vector<int32_t>(table.size(), 1));
  const CudaLaunch launch = kernel.prepare(tensors.views(), bound);
  EXPECT_EQ(tensors.run(launch, kTokens, false), before);
  EXPECT_NE(tensors.run(launch, kTokens), before);
}

TEST(GpuDeviceInputs, AGraphOfBuildAndLaunchSeesNewLengths) {
  const CudaKernel kernel = compile_cuda(test::workload_of(causal(), test::shape_of(kHeads, kHeads, kDim)), gpu());
  const Tensors tensors(4);
  const cuda::DeviceMemory offsets = on_device(offsets_of({100, 412}));
  const CudaLaunch launch = kernel.prepare(tensors.views(), kernel.bind_on_device(inputs_of(offsets, 2, kTokens)));
  const cuda::CurrentContext current(*gpu().device);
  const cuda::Driver& driver = gpu().device->driver();
  const cuda::OwnStream stream(gpu().device);
  cuda::Graph graph = nullptr;
  cuda::GraphExec exec = nullptr;
  ASSERT_EQ(driver.stream_begin_capture(stream.get(), 0), cuda::kSuccess);
  launch.enqueue(stream.get());
  ASSERT_EQ(driver.stream_end_capture(stream.get(), &graph), cuda::kSuccess);
  ASSERT_EQ(driver.graph_instantiate(&exec, graph, 0), cuda::kSuccess);
  for (const std::vector<int64_t>& lengths : std::vector<std::vector<int64_t>>{{100, 412}, {256, 256}, {500, 12}}) {
    overwrite(offsets, offsets_of(lengths));
    ASSERT_EQ(driver.graph_launch(exec, stream.get()), cuda::kSuccess);
    stream.synchronize();
    std::vector<uint16_t> found(static_cast<size_t>(kElements));
    cuda::copy_to_host(*gpu().device, std::as_writable_bytes(std::span(found)), tensors.out.pointer());
    const CudaLaunch fixed = kernel.prepare(tensors.views(), kernel.bind({}, packed_geometry(lengths, lengths)));
    EXPECT_EQ(found, tensors.run(fixed, kTokens));
  }
  driver.graph_exec_destroy(exec);
  driver.graph_destroy(graph);
}

TEST(GpuDeviceInputs, WhatNeedsTheHostIsRefusedInOneLine) {
  const auto message = [](const Mask& mask, CudaDeviceInputs inputs) {
    const CudaKernel kernel = compile_cuda(test::workload_of(mask, test::shape_of(kHeads, kHeads, kDim)), gpu());
    try {
      kernel.bind_on_device(inputs);
    } catch (const InvalidInput& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const cuda::DeviceMemory offsets = on_device(offsets_of({100, 412}));
  const cuda::DeviceMemory small = on_device(std::vector<int32_t>(4));
  const CudaDeviceInputs inputs = inputs_of(offsets, 2, 412);
  CudaDeviceInputs with_table = inputs;
  with_table.arrays["table"] = {.data = small.pointer(), .type = ElementType::kInt32, .shape = {2, 2}};
  EXPECT_THAT(message(blocks(64, "table"), inputs), testing::HasSubstr("@table"));
  EXPECT_THAT(message(blocks(64, "table"), with_table), testing::HasSubstr("the longest sequence needs 7"));
  EXPECT_THAT(message(causal(), with_table), testing::HasSubstr("no such array"));
  EXPECT_THAT(message(global_tokens("tokens"), inputs), testing::HasSubstr("on the host"));
  with_table.arrays["table"].type = ElementType::kFloat32;
  EXPECT_THAT(message(blocks(64, "table"), with_table), testing::HasSubstr("float32"));
  CudaDeviceInputs without = inputs;
  without.cu_query = 0;
  EXPECT_THAT(message(causal(), without), testing::HasSubstr("cu_query"));
  CudaDeviceInputs huge = inputs;
  huge.longest_key = int64_t{1} << 40;
  EXPECT_THAT(message(causal(), huge), testing::HasSubstr("1099511627776"));
}

}  // namespace
}  // namespace harrier
