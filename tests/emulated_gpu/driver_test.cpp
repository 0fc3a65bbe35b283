// The driver and NVRTC as hosts see them: errors, limits, graphs, faults that tests ask for.
#include <gmock/gmock.h>

#include <thread>

#include "device.h"

namespace harrier::test {
namespace {

using testing::HasSubstr;

constexpr char kAdd[] = R"(
struct alignas(64) Wide { int values[16]; };
extern "C" __global__ void __launch_bounds__(64, 2) add(int* data, int what) { data[threadIdx.x] += what; }
extern "C" __global__ void __launch_bounds__(2 * (16 + 16)) wide(const __grid_constant__ Wide wide, int* data) {
  data[threadIdx.x] = wide.values[threadIdx.x % 16] + (reinterpret_cast<unsigned long long>(&wide) % 64 == 0);
}
extern "C" __global__ void fail(int* data) { __trap(); }
)";

TEST(EmulatedDriver, SaysWhatTheEnvironmentSays) {
  const Setting capability("HARRIER_EMULATED_CAPABILITY", "8.9"), devices("HARRIER_EMULATED_DEVICES", "3"),
      multiprocessors("HARRIER_EMULATED_SMS", "7"), driver("HARRIER_EMULATED_DRIVER", "12040");
  const Context context;
  int value = 0;
  EXPECT_EQ(cuDriverGetVersion(&value), CUDA_SUCCESS);
  EXPECT_EQ(value, 12040);
  EXPECT_EQ(cuDeviceGetCount(&value), CUDA_SUCCESS);
  EXPECT_EQ(value, 3);
  const auto attribute = [](int which) {
    int found = 0;
    check(cuDeviceGetAttribute(&found, which, 2));
    return found;
  };
  EXPECT_EQ(attribute(75) * 10 + attribute(76), 89);
  EXPECT_EQ(attribute(16), 7);
  EXPECT_EQ(attribute(97), 99 * 1024);
  CUdevice device = 0;
  EXPECT_EQ(cuDeviceGet(&device, 3), CUDA_ERROR_INVALID_DEVICE);
}

TEST(EmulatedDriver, NeedsAContext) {
  check(cuInit(0));
  check(cuCtxSetCurrent(nullptr));
  CUdeviceptr pointer = 0;
  EXPECT_EQ(cuMemAlloc_v2(&pointer, 16), CUDA_ERROR_INVALID_CONTEXT);
}

TEST(EmulatedDriver, ContextsAreOfThreads) {
  const Context context;
  CUcontext here = nullptr, there = nullptr;
  check(cuCtxGetCurrent(&here));
  std::thread([&] { check(cuCtxGetCurrent(&there)); }).join();
  EXPECT_NE(here, nullptr);
  EXPECT_EQ(there, nullptr);
}

TEST(EmulatedDriver, FailsWhereATestAsks) {
  const Context context;
  const Setting failures("HARRIER_EMULATED_FAIL", "cuMemAlloc_v2=2@3,cuModuleLoadData=209");
  CUdeviceptr pointers[3] = {};
  EXPECT_EQ(cuMemAlloc_v2(&pointers[0], 16), CUDA_SUCCESS);
  EXPECT_EQ(cuMemAlloc_v2(&pointers[1], 16), CUDA_SUCCESS);
  EXPECT_EQ(cuMemAlloc_v2(&pointers[2], 16), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(cuMemAlloc_v2(&pointers[2], 16), CUDA_ERROR_OUT_OF_MEMORY);
  CUmodule module = nullptr;
  EXPECT_EQ(cuModuleLoadData(&module, "anything"), CUDA_ERROR_NO_BINARY_FOR_GPU);
  check(cuMemFree_v2(pointers[0]));
  check(cuMemFree_v2(pointers[1]));
}

TEST(EmulatedDriver, AFaultStaysUntilTheContextIsReleased) {
  {
    const Context context;
    const Module module(kAdd);
    testing::internal::CaptureStderr();
    EXPECT_EQ(launch(module.kernel("fail"), {1}, 32, 0, static_cast<int*>(nullptr)), CUDA_ERROR_LAUNCH_FAILED);
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("fail, CTA (0, 0, 0): thread 0: __trap"));
    CUdeviceptr pointer = 0;
    EXPECT_EQ(cuMemAlloc_v2(&pointer, 16), CUDA_ERROR_LAUNCH_FAILED);
  }
  const Context context;
  const Buffer<int> works(4);
}

TEST(EmulatedDriver, ChecksLaunches) {
  const Context context;
  const Module module(kAdd);
  const CUfunction add = module.kernel("add");
  const Buffer<int> data(std::vector<int>(64, 1));
  int* pointer = data.data();
  int what = 5;
  void* arguments[] = {&pointer, &what};
  const auto result = [&](unsigned grid, unsigned threads, unsigned shared, void** list) {
    return cuLaunchKernel(add, grid, 1, 1, threads, 1, 1, shared, nullptr, list, nullptr);
  };
  EXPECT_EQ(result(1, 65, 0, arguments), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(result(0, 64, 0, arguments), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(result(1, 64, 0, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(result(1, 64, 48 * 1024 + 1, arguments), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuFuncSetAttribute(add, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 227 * 1024 + 1),
            CUDA_ERROR_INVALID_VALUE);
  check(cuFuncSetAttribute(add, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100 * 1024));
  EXPECT_EQ(result(1, 64, 100 * 1024, arguments), CUDA_SUCCESS);
  EXPECT_EQ(data.download(), std::vector<int>(64, 6));
  int ctas = 0;
  check(cuOccupancyMaxActiveBlocksPerMultiprocessor(&ctas, add, 64, 100 * 1024));
  EXPECT_EQ(ctas, 2);
  int threads = 0;
  check(cuFuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, module.kernel("wide")));
  EXPECT_EQ(threads, 64);
  EXPECT_THROW(module.kernel("nobody"), std::runtime_error);
}

TEST(EmulatedDriver, ParametersKeepTheirAlignment) {
  const Context context;
  const Module module(kAdd);
  struct alignas(64) Wide {
    int values[16];
  } wide{};
  for (int i = 0; i < 16; ++i) wide.values[i] = 10 * i;
  const Buffer<int> data(32);
  check(launch(module.kernel("wide"), {1}, 32, 0, wide, data.data()));
  EXPECT_EQ(data.download()[7], 71);
}

TEST(EmulatedDriver, GraphsRunWhatWasCaptured) {
  const Context context;
  const Module module(kAdd);
  const Buffer<int> data(std::vector<int>(32, 0));
  int* pointer = data.data();
  int what = 5;
  void* arguments[] = {&pointer, &what};
  CUstream stream = nullptr;
  check(cuStreamCreate(&stream, 1));
  EXPECT_EQ(cuStreamBeginCapture_v2(nullptr, 0), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  check(cuStreamBeginCapture_v2(stream, 0));
  int status = 0;
  check(cuStreamIsCapturing(stream, &status));
  EXPECT_EQ(status, 1);
  check(cuMemsetD32Async(reinterpret_cast<CUdeviceptr>(pointer), 100, 16, stream));
  check(cuLaunchKernel(module.kernel("add"), 1, 1, 1, 32, 1, 1, 0, stream, arguments, nullptr));
  what = 7;  // the launch has its own copy
  check(cuLaunchKernel(module.kernel("add"), 1, 1, 1, 32, 1, 1, 0, stream, arguments, nullptr));
  CUgraph graph = nullptr;
  check(cuStreamEndCapture(stream, &graph));
  EXPECT_EQ(data.download(), std::vector<int>(32, 0));
  CUgraphExec executable = nullptr;
  check(cuGraphInstantiateWithFlags(&executable, graph, 0));
  check(cuGraphDestroy(graph));
  check(cuGraphLaunch(executable, stream));
  check(cuGraphLaunch(executable, stream));
  check(cuStreamSynchronize(stream));
  std::vector<int> expected(32, 24);
  std::fill_n(expected.begin(), 16, 112);
  EXPECT_EQ(data.download(), expected);
  check(cuGraphExecDestroy(executable));
  check(cuStreamDestroy_v2(stream));
}

TEST(EmulatedDriver, WhatMustNotBeCapturedSpoilsTheCapture) {
  const Context context;
  CUstream stream = nullptr;
  CUdeviceptr pointer = 0;
  CUgraph graph = nullptr;
  check(cuStreamCreate(&stream, 1));
  check(cuStreamBeginCapture_v2(stream, 0));
  EXPECT_EQ(cuMemAlloc_v2(&pointer, 16), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  check(cuStreamBeginCapture_v2(stream, 0));
  EXPECT_EQ(cuStreamSynchronize(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  check(cuMemAlloc_v2(&pointer, 16));
  check(cuMemFree_v2(pointer));
  check(cuStreamDestroy_v2(stream));
}

TEST(EmulatedDriver, KnowsItsPointers) {
  const Context context;
  const Buffer<int> data(100);
  const auto address = reinterpret_cast<CUdeviceptr>(data.data());
  unsigned type = 0;
  int ordinal = -1, host = 0;
  check(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 399));
  EXPECT_EQ(type, 2u);
  check(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address));
  EXPECT_EQ(ordinal, 0);
  EXPECT_EQ(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(&host)),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemcpyHtoD_v2(address, &host, 401), CUDA_ERROR_INVALID_VALUE);
}

TEST(EmulatedDriverDeathTest, SeesWritesPastAnAllocation) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(
      {
        const Context context;
        const Module module(kAdd);
        const Buffer<int> data(63);
        launch(module.kernel("add"), {1}, 64, 0, data.data(), 1);
      },
      "bounds of an allocation of 252 bytes");
}

TEST(EmulatedNvrtc, GivesTheCompilersText) {
  const Compiled compiled = compile("extern \"C\" __global__ void test() {\n  undeclared = 1;\n}\n");
  EXPECT_EQ(compiled.result, NVRTC_ERROR_COMPILATION);
  EXPECT_THAT(compiled.log, testing::AllOf(HasSubstr("test.cu:2:"), HasSubstr("undeclared")));
}

TEST(EmulatedNvrtc, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(compile(kAdd, "sm_35").result, NVRTC_ERROR_INVALID_OPTION);
  nvrtcProgram program = nullptr;
  EXPECT_EQ(nvrtcCreateProgram(&program, kAdd, "add.cu", 0, nullptr, nullptr), NVRTC_SUCCESS);
  const char* options[] = {"--no-such-option"};
  EXPECT_EQ(nvrtcCompileProgram(program, 1, options), NVRTC_ERROR_INVALID_OPTION);
  EXPECT_EQ(nvrtcSetFlowCallback(program, [](void*, void*) { return 1; }, nullptr), NVRTC_SUCCESS);
  EXPECT_EQ(nvrtcCompileProgram(program, 0, nullptr), NVRTC_ERROR_CANCELLED);
  EXPECT_EQ(nvrtcDestroyProgram(&program), NVRTC_SUCCESS);
}

TEST(EmulatedNvrtc, ImagesAreForTheirDevices) {
  const Context context;
  const auto loaded = [](const char* device, const char* architecture) {
    const Setting capability("HARRIER_EMULATED_CAPABILITY", device);
    const Compiled compiled = compile(kAdd, architecture);
    CUmodule module = nullptr;
    const CUresult result = cuModuleLoadData(&module, compiled.image.data());
    if (result == CUDA_SUCCESS) check(cuModuleUnload(module));
    return result;
  };
  EXPECT_EQ(loaded("9.0", "sm_90a"), CUDA_SUCCESS);
  EXPECT_EQ(loaded("10.0", "sm_90a"), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_EQ(loaded("8.9", "sm_80"), CUDA_SUCCESS);
  EXPECT_EQ(loaded("9.0", "sm_80"), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_EQ(loaded("9.0", "compute_80"), CUDA_SUCCESS);
  EXPECT_EQ(loaded("7.5", "compute_80"), CUDA_ERROR_NO_BINARY_FOR_GPU);
  CUmodule module = nullptr;
  EXPECT_EQ(cuModuleLoadData(&module, "not an image"), CUDA_ERROR_INVALID_IMAGE);
}

}  // namespace
}  // namespace harrier::test
