// Launches as users hold them: prepared once, on any stream, in graphs, from several threads, again and again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"
#include "support/tensors.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using test::gpu;

constexpr int64_t kTokens = 300;
constexpr int64_t kDim = 64;
constexpr int64_t kElements = kTokens * kDim;

/// One head of packed sequences on the device, and a launch on it.
struct DeviceCase {
  cuda::DeviceMemory q, k, v, out;
  CudaBinding bound;

  CudaTensors tensors() const {
    const auto tensor = [](const cuda::DeviceMemory& memory) {
      return CudaTensor{.data = memory.pointer(), .batch_stride = 0, .token_stride = kDim, .head_stride = kDim};
    };
    return {.q = tensor(q), .k = tensor(k), .v = tensor(v), .out = tensor(out), .lse = {}};
  }
};

cuda::DeviceMemory random_tensor(std::mt19937_64& random) {
  const std::vector<uint8_t> bytes = encode(random_values(random, kElements, DataType::kBFloat16), DataType::kBFloat16);
  return cuda::copy_to_device(gpu().device, std::as_bytes(std::span(bytes)));
}

DeviceCase make_case(const CudaKernel& kernel, uint64_t seed, const std::vector<int64_t>& lengths = {200, 100}) {
  std::mt19937_64 random(seed);
  DeviceCase made;
  made.q = random_tensor(random);
  made.k = random_tensor(random);
  made.v = random_tensor(random);
  made.out = random_tensor(random);
  made.bound = kernel.bind({}, packed_geometry(lengths, lengths));
  return made;
}

std::vector<uint8_t> output_of(const DeviceCase& made) {
  std::vector<uint8_t> bytes(static_cast<size_t>(kElements) * 2);
  cuda::copy_to_host(*gpu().device, std::as_writable_bytes(std::span(bytes)), made.out.pointer());
  return bytes;
}

void clear_output(const DeviceCase& made, const cuda::OwnStream& stream) {
  const cuda::CurrentContext current(*gpu().device);
  cuda::check(
      gpu().device->driver(),
      gpu().device->driver().fill_bytes(made.out.pointer(), 0xff, static_cast<size_t>(kElements) * 2, stream.get()),
      "clearing");
  stream.synchronize();
}

CudaKernel window_kernel() {
  return compile_cuda(test::workload_of(window(100, 0) | sink(4), test::shape_of(1, 1, kDim)), gpu());
}

TEST(GpuLaunch, GivesTheSameBitsEveryTime) {
  const CudaKernel kernel = window_kernel();
  const DeviceCase made = make_case(kernel, 1);
  const CudaLaunch launch = kernel.prepare(made.tensors(), made.bound);
  const cuda::CurrentContext current(*gpu().device);
  cuda::OwnStream stream(gpu().device);
  launch.enqueue(stream.get());
  stream.synchronize();
  const std::vector<uint8_t> first = output_of(made);
  const int repeats = test::is_emulated() ? 3 : 1000;
  for (int i = 0; i < repeats; ++i) {
    clear_output(made, stream);
    launch.enqueue(stream.get());
    stream.synchronize();
    ASSERT_EQ(output_of(made), first) << "repeat " << i;
  }
}

TEST(GpuLaunch, IsCapturedInAGraph) {
  const CudaKernel kernel = window_kernel();
  const DeviceCase made = make_case(kernel, 2);
  const CudaLaunch launch = kernel.prepare(made.tensors(), made.bound);
  const cuda::CurrentContext current(*gpu().device);
  cuda::OwnStream stream(gpu().device);
  launch.enqueue(stream.get());
  stream.synchronize();
  const std::vector<uint8_t> eager = output_of(made);

  const cuda::Driver& driver = gpu().device->driver();
  cuda::Graph graph = nullptr;
  cuda::GraphExec exec = nullptr;
  ASSERT_EQ(driver.stream_begin_capture(stream.get(), 0), cuda::kSuccess);
  launch.enqueue(stream.get());
  ASSERT_EQ(driver.stream_end_capture(stream.get(), &graph), cuda::kSuccess);
  ASSERT_EQ(driver.graph_instantiate(&exec, graph, 0), cuda::kSuccess);
  for (int i = 0; i < 3; ++i) {
    clear_output(made, stream);
    ASSERT_EQ(driver.graph_launch(exec, stream.get()), cuda::kSuccess);
    stream.synchronize();
    EXPECT_EQ(output_of(made), eager);
  }
  driver.graph_exec_destroy(exec);
  driver.graph_destroy(graph);
}

TEST(GpuLaunch, RunsFromSeveralThreadsAtOnce) {
  if (test::is_emulated()) GTEST_SKIP() << "the emulated GPU runs one launch at a time";
  const CudaKernel kernel = window_kernel();
  std::vector<std::thread> threads;
  std::vector<int> same(6, 0);
  for (size_t i = 0; i < same.size(); ++i) {
    threads.emplace_back([&, i] {
      const DeviceCase made = make_case(kernel, 3);
      const CudaLaunch launch = kernel.prepare(made.tensors(), made.bound);
      const cuda::CurrentContext current(*gpu().device);
      cuda::OwnStream stream(gpu().device);
      launch.enqueue(stream.get());
      stream.synchronize();
      const std::vector<uint8_t> first = output_of(made);
      for (int repeat = 0; repeat < 50; ++repeat) {
        launch.enqueue(stream.get());
        stream.synchronize();
        same[i] += output_of(made) == first ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(same, testing::Each(50));
}

TEST(GpuLaunch, ReadsPartsOfAFusedTensor) {
  // [tokens, 3, heads, dim]: q, k and v are views of it, and give the bits that dense tensors of the same numbers give.
  const CudaKernel kernel = window_kernel();
  const DeviceCase dense = make_case(kernel, 7);
  std::vector<uint16_t> fused(static_cast<size_t>(3 * kElements));
  int64_t part = 0;
  for (const cuda::DeviceMemory* memory : {&dense.q, &dense.k, &dense.v}) {
    std::vector<uint16_t> values(static_cast<size_t>(kElements));
    cuda::copy_to_host(*gpu().device, std::as_writable_bytes(std::span(values)), memory->pointer());
    for (int64_t token = 0; token < kTokens; ++token) {
      std::copy_n(values.begin() + token * kDim, kDim, fused.begin() + (3 * token + part) * kDim);
    }
    ++part;
  }
  const cuda::DeviceMemory memory = cuda::copy_to_device(gpu().device, std::as_bytes(std::span(fused)));
  CudaTensors views = dense.tensors();
  part = 0;
  for (CudaTensor* view : {&views.q, &views.k, &views.v}) {
    *view = {.data = memory.pointer() + static_cast<uint64_t>(2 * kDim * part++),
             .batch_stride = 0,
             .token_stride = 3 * kDim,
             .head_stride = kDim};
  }
  const cuda::CurrentContext current(*gpu().device);
  cuda::OwnStream stream(gpu().device);
  kernel.prepare(dense.tensors(), dense.bound).enqueue(stream.get());
  stream.synchronize();
  const std::vector<uint8_t> expected = output_of(dense);
  clear_output(dense, stream);
  const CudaLaunch launch = kernel.prepare(views, dense.bound);
  launch.enqueue(stream.get());
  stream.synchronize();
  EXPECT_EQ(output_of(dense), expected);
}

TEST(GpuLaunch, TouchesNothingForABatchWithoutTokens) {
  const CudaKernel kernel = window_kernel();
  const DeviceCase made = make_case(kernel, 4, {0, 0});
  const std::vector<uint8_t> before = output_of(made);
  const CudaLaunch launch = kernel.prepare(made.tensors(), made.bound);
  const cuda::CurrentContext current(*gpu().device);
  cuda::OwnStream stream(gpu().device);
  launch.enqueue(stream.get());
  stream.synchronize();
  EXPECT_EQ(output_of(made), before);
}

template <typename Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const InvalidInput& error) {
    return error.what();
  }
  return "no error";
}

TEST(GpuLaunch, RefusesWhatKernelsCannotRead) {
  const CudaKernel kernel = window_kernel();
  const DeviceCase made = make_case(kernel, 5);
  const auto with = [&](auto change) {
    CudaTensors tensors = made.tensors();
    change(tensors);
    return message_of([&] { kernel.prepare(tensors, made.bound); });
  };
  std::vector<uint16_t> host(static_cast<size_t>(kElements));
  EXPECT_THAT(with([&](CudaTensors& t) { t.k.data = reinterpret_cast<cuda::DevicePointer>(host.data()); }),
              testing::AllOf(testing::HasSubstr("k at"), testing::HasSubstr("not device memory")));
  EXPECT_THAT(with([](CudaTensors& t) { t.q.data += 2; }), testing::HasSubstr("multiple of 16"));
  EXPECT_THAT(with([](CudaTensors& t) { t.v.token_stride = 65; }), testing::HasSubstr("65"));
  EXPECT_THAT(with([](CudaTensors& t) { t.out.head_stride = -8; }), testing::HasSubstr("-8"));
  EXPECT_THAT(message_of([&] { kernel.prepare(made.tensors(), nullptr); }), testing::HasSubstr("binding"));
  EXPECT_THAT(message_of([&] { kernel.prepare(made.tensors(), window_kernel().bind({}, packed_geometry({1}, {1}))); }),
              testing::HasSubstr("another kernel"));
}

TEST(GpuLaunch, StaysUsableAfterARefusal) {
  const CudaKernel kernel = window_kernel();
  const DeviceCase made = make_case(kernel, 6);
  CudaTensors broken = made.tensors();
  broken.q.data += 2;
  EXPECT_THROW(kernel.prepare(broken, made.bound), InvalidInput);
  const CudaLaunch launch = kernel.prepare(made.tensors(), made.bound);
  const cuda::CurrentContext current(*gpu().device);
  cuda::OwnStream stream(gpu().device);
  clear_output(made, stream);
  launch.enqueue(stream.get());
  stream.synchronize();
  EXPECT_NE(output_of(made), std::vector<uint8_t>(static_cast<size_t>(kElements) * 2, 0xff));
}

}  // namespace
}  // namespace harrier
