// What CUDA's language says of warps and CTAs, as kernels see it here.
#include <gmock/gmock.h>

#include "device.h"

namespace harrier::test {
namespace {

/// Runs `body` with 64 threads, each of which sets `result`; `n` is its number.
std::vector<int> run_threads(const std::string& body, unsigned threads = 64) {
  const Context context;
  const Module module(
      "extern \"C\" __global__ void __launch_bounds__(1024) test(int* results) {\n"
      "  const int n = threadIdx.x;\n  int result = -1;\n" +
      body + "\n  results[n] = result;\n}\n");
  const Buffer<int> results(threads);
  check(launch(module.kernel("test"), {1}, threads, 256, results.data()));
  return results.download();
}

/// What threads should have, by their number.
template <class Expected>
std::vector<int> each(const Expected& expected, int threads = 64) {
  std::vector<int> values;
  for (int n = 0; n < threads; ++n) values.push_back(expected(n));
  return values;
}

TEST(EmulatedWarp, ShufflesFromALane) {
  EXPECT_EQ(run_threads("result = __shfl_sync(~0u, n, 5);"), each([](int n) { return n / 32 * 32 + 5; }));
  EXPECT_EQ(run_threads("result = __shfl_sync(~0u, n, n + 1, 8);"),
            each([](int n) { return n / 8 * 8 + (n + 1) % 8; }));
  EXPECT_EQ(run_threads("result = __shfl_sync(~0u, double(n), 3);"), each([](int n) { return n / 32 * 32 + 3; }));
}

TEST(EmulatedWarp, ShufflesByDistance) {
  EXPECT_EQ(run_threads("result = __shfl_xor_sync(~0u, n, 3);"), each([](int n) { return n ^ 3; }));
  EXPECT_EQ(run_threads("result = __shfl_up_sync(~0u, n, 4);"), each([](int n) { return n % 32 < 4 ? n : n - 4; }));
  EXPECT_EQ(run_threads("result = __shfl_down_sync(~0u, n, 4, 16);"),
            each([](int n) { return n % 16 >= 12 ? n : n + 4; }));
}

TEST(EmulatedWarp, Votes) {
  EXPECT_EQ(run_threads("result = __ballot_sync(~0u, n % 3 == 0) == (n < 32 ? 0x49249249u : 0x92492492u);"),
            each([](int) { return 1; }));
  EXPECT_EQ(run_threads("result = __any_sync(~0u, n == 40);"), each([](int n) { return n >= 32 ? 1 : 0; }));
  EXPECT_EQ(run_threads("result = __all_sync(~0u, n != 40);"), each([](int n) { return n < 32 ? 1 : 0; }));
  EXPECT_EQ(run_threads("result = __popc(__match_any_sync(~0u, n / 24));"), each([](int n) {
              return n < 24 ? 24 : n < 32 ? 8 : 16;
            }));
}

TEST(EmulatedWarp, ReducesAndMasks) {
  EXPECT_EQ(run_threads("result = __reduce_add_sync(~0u, n);", 32), each([](int) { return 496; }, 32));
  EXPECT_EQ(run_threads("result = __reduce_max_sync(~0u, n % 7);", 32), each([](int) { return 6; }, 32));
  EXPECT_EQ(
      run_threads("const unsigned half = n < 16 ? 0xffffu : 0xffff0000u; result = __reduce_min_sync(half, n);", 32),
      each([](int n) { return n < 16 ? 0 : 16; }, 32));
}

TEST(EmulatedWarp, LanesMayRunAheadByOneMeeting) {
  EXPECT_EQ(run_threads("int sum = 0;\n"
                        "for (int i = 0; i < 100; ++i) sum += __shfl_sync(~0u, n + i, i % 32);\n"
                        "result = sum - 100 * (n / 32 * 32);"),
            each([](int) {
              int sum = 0;
              for (int i = 0; i < 100; ++i) sum += i % 32 + i;
              return sum;
            }));
}

TEST(EmulatedCta, JoinsAllThreads) {
  EXPECT_EQ(run_threads("extern __shared__ int memory[];\nmemory[n] = n;\n__syncthreads();\nresult = memory[63 - n];"),
            each([](int n) { return 63 - n; }));
  EXPECT_EQ(run_threads("result = __syncthreads_count(n % 3 == 0);"), each([](int) { return 22; }));
  EXPECT_EQ(run_threads("result = __syncthreads_or(n == 50) * 2 + __syncthreads_and(n == 50);"),
            each([](int) { return 2; }));
}

TEST(EmulatedCta, DoesNotWaitForThreadsThatHaveExited) {
  EXPECT_EQ(run_threads("if (n >= 32) { results[n] = 7; return; }\n__syncthreads();\nresult = 3;"),
            each([](int n) { return n >= 32 ? 7 : 3; }));
}

TEST(EmulatedCta, SharedMemoryStartsAsNotANumber) {
  EXPECT_EQ(run_threads("extern __shared__ float memory[];\nresult = memory[n] != memory[n];"),
            each([](int) { return 1; }));
}

TEST(EmulatedCta, GridsAndBlocksHaveThreeDimensions) {
  const Context context;
  const Module module(
      "extern \"C\" __global__ void __launch_bounds__(64) test(int* results) {\n"
      "  const int cta = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);\n"
      "  results[cta * 24 + threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)] = cta * 24 + 1;\n}\n");
  const Buffer<int> results(24 * 24);
  int* data = results.data();
  void* arguments[] = {&data};
  check(cuLaunchKernel(module.kernel("test"), 2, 3, 4, 4, 3, 2, 0, nullptr, arguments, nullptr));
  std::vector<int> expected;
  for (int i = 0; i < 24 * 24; ++i) expected.push_back(i / 24 * 24 + 1);
  EXPECT_EQ(results.download(), expected);
}

TEST(EmulatedLanguage, BitsAndAtomics) {
  EXPECT_EQ(run_threads("result = __popc(n) + 100 * __ffs(n) + 10000 * __clz(n);", 8),
            (std::vector<int>{320000, 310101, 300201, 300102, 290301, 290102, 290202, 290103}));
  EXPECT_EQ(run_threads("result = __brev(1u << n) == 1u << (31 - n);", 32), each([](int) { return 1; }, 32));
  EXPECT_EQ(run_threads("result = __funnelshift_l(0x80000000u, 1u, n + 1) >> n;", 4), each([](int) { return 3; }, 4));
  EXPECT_EQ(run_threads("extern __shared__ int memory[];\nif (n == 0) memory[0] = 10;\n__syncthreads();\n"
                        "atomicAdd(memory, 1);\n__syncthreads();\nresult = memory[0];"),
            each([](int) { return 74; }));
  EXPECT_EQ(run_threads("extern __shared__ int memory[];\nif (n == 0) memory[0] = 5;\n__syncthreads();\n"
                        "result = atomicCAS(memory, 5, 9);",
                        2),
            (std::vector<int>{5, 9}));
}

}  // namespace
}  // namespace harrier::test
