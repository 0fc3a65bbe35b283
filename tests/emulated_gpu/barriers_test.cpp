// Barriers hold threads until they may go on; misuse and deadlock are said, with who waits at what.
#include <gmock/gmock.h>

#include "device.h"

namespace harrier::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Ending {
  CUresult result;
  std::string said;
};

/// Runs `body` with dynamic shared memory in `memory`; `n` is the thread's number, `barrier` a shared address.
Ending run_body(const std::string& body, unsigned threads = 64, unsigned ctas = 1) {
  const Context context;
  const Module module(
      "#include \"codegen/cuda/kernels/ptx.cuh\"\nusing namespace harrier;\n"
      "extern \"C\" __global__ void __launch_bounds__(1024) test() {\n"
      "  extern __shared__ __align__(1024) unsigned char memory[];\n"
      "  const int n = threadIdx.x;\n  const uint32 barrier = ptx::shared_address(memory);\n" +
      body + "\n}\n");
  testing::internal::CaptureStderr();
  const CUresult result = launch(module.kernel("test"), {ctas}, threads, 4096);
  return {result, testing::internal::GetCapturedStderr()};
}

constexpr char kInit[] = "if (n == 0) ptx::barrier_init(barrier, 2);\n__syncthreads();\n";

TEST(EmulatedBarrier, CompletesAPhaseWithItsArrivals) {
  const Ending ending = run_body(std::string(kInit) +
                                 "for (int phase = 0; phase < 5; ++phase) {\n"
                                 "  if (n % 32 == 0) ptx::barrier_arrive(barrier);\n"
                                 "  ptx::barrier_wait(barrier, phase & 1);\n"
                                 "  ptx::named_barrier_sync(1, 64);\n}");
  EXPECT_EQ(ending.result, CUDA_SUCCESS) << ending.said;
}

TEST(EmulatedBarrier, SaysWhoWaitsInADeadlock) {
  const Ending ending = run_body(std::string(kInit) +
                                 "if (n == 63) return;\n"
                                 "if (n < 32) ptx::barrier_wait(barrier, 0);\n"
                                 "if (n < 40) __syncthreads();\n"
                                 "ptx::named_barrier_sync(3, 64);");
  EXPECT_EQ(ending.result, CUDA_ERROR_LAUNCH_TIMEOUT);
  EXPECT_THAT(ending.said,
              AllOf(HasSubstr("deadlock"), HasSubstr("CTA (0, 0, 0)"),
                    HasSubstr("32 threads wait at the transaction barrier at shared byte 0 for parity 0: 0-31"),
                    HasSubstr("8 threads wait at __syncthreads (barrier 0): 32-39"),
                    HasSubstr("23 threads wait at named barrier 3 of 64 threads: 40-62"),
                    HasSubstr("1 threads have exited: 63")));
}

TEST(EmulatedPause, EndsWhenAnotherThreadHasWritten) {
  const Ending ending = run_body(
      "auto* flags = reinterpret_cast<volatile int*>(memory);\nif (n < 2) flags[n] = 0;\n__syncthreads();\n"
      "if (n == 0) { while (flags[0] == 0) __nanosleep(20); flags[1] = 1; }\n"
      "if (n == 32) { while (flags[1] == 0) __nanosleep(20); }\n"
      "if (n == 63) flags[0] = 1;");
  EXPECT_EQ(ending.result, CUDA_SUCCESS) << ending.said;
}

TEST(EmulatedPause, OfThreadsThatWaitForEachOtherIsADeadlock) {
  const Ending ending = run_body(
      "auto* flags = reinterpret_cast<volatile int*>(memory);\nif (n < 2) flags[n] = 0;\n__syncthreads();\n"
      "if (n < 2) { while (flags[1 - n] == 0) __nanosleep(20); flags[n] = 1; }\n__syncthreads();");
  EXPECT_EQ(ending.result, CUDA_ERROR_LAUNCH_TIMEOUT);
  EXPECT_THAT(ending.said, AllOf(HasSubstr("2 threads wait at a pause: 0-1"),
                                 HasSubstr("62 threads wait at __syncthreads (barrier 0): 2-63")));
}

TEST(EmulatedPause, OfCtasThatWaitForEachOtherEndsWhereTheyRunSideBySide) {
  // Each CTA waits for the next; all keep what is theirs: shared memory, barriers, warps that have met.
  const std::string body =
      "static volatile int there[4] = {0, 0, 0, 0};\n"
      "int* mine = reinterpret_cast<int*>(memory) + 4;\nconst int cta = blockIdx.x;\n"
      "mine[n] = cta;\nif (n == 0) ptx::barrier_init(barrier, 2);\n__syncthreads();\n"
      "if (n == 0) { there[cta] = 1; while (cta < 3 && there[cta + 1] == 0) __nanosleep(20); }\n"
      "if (n % 32 == 0) ptx::barrier_arrive(barrier);\nptx::barrier_wait(barrier, 0);\n"
      "if (__shfl_sync(~0u, mine[n], 3) != cta) __trap();\n__syncthreads();\nif (n == 0) there[cta] = 1;";
  EXPECT_THAT(run_body(body, 64, 4).said, HasSubstr("1 threads wait at a pause: 0"));
  for (const char* seed : {"", "1", "2"}) {
    for (const char* ctas : {"2", "4", "9"}) {
      const Setting together("HARRIER_EMULATED_TOGETHER", ctas), order("HARRIER_EMULATED_SEED", seed);
      const Ending ending = run_body(body, 64, 4);
      EXPECT_EQ(ending.result, CUDA_SUCCESS) << ending.said;
    }
  }
}

TEST(EmulatedBarrier, LaneMissingAtACollectiveIsADeadlock) {
  const Ending ending = run_body("if (n != 7) __syncwarp();", 32);
  EXPECT_EQ(ending.result, CUDA_ERROR_LAUNCH_TIMEOUT);
  EXPECT_THAT(ending.said, HasSubstr("31 threads wait at __syncwarp of lanes 0xffffffff: 0-6, 8-31"));
}

TEST(EmulatedBarrier, DifferentCollectivesOfOneWarpAreAFault) {
  const Ending ending = run_body("if (n == 7) __ballot_sync(~0u, 1); else __syncwarp();", 32);
  EXPECT_EQ(ending.result, CUDA_ERROR_LAUNCH_FAILED);
  EXPECT_THAT(ending.said, HasSubstr("__ballot_sync while other lanes of mask 0xffffffff are at __syncwarp"));
}

TEST(EmulatedBarrier, ArrivesWithoutWaiting) {
  const Ending ending = run_body("if (n < 32) ptx::named_barrier_arrive(2, 64); else ptx::named_barrier_sync(2, 64);");
  EXPECT_EQ(ending.result, CUDA_SUCCESS) << ending.said;
}

TEST(EmulatedBarrier, RefusesMisuse) {
  const auto said = [](const std::string& body) { return run_body(body).said; };
  EXPECT_THAT(said("ptx::barrier_arrive(barrier);"), HasSubstr("is not initialised"));
  EXPECT_THAT(said("ptx::barrier_expect(barrier, 16);"), HasSubstr("is not initialised"));
  EXPECT_THAT(said(std::string(kInit) + "if (n == 0) memory[3] = 1;\n__syncthreads();\nptx::barrier_arrive(barrier);"),
              HasSubstr("was overwritten"));
  EXPECT_THAT(said(std::string(kInit) + "ptx::barrier_init(barrier, 2);"), HasSubstr("initialised twice"));
  EXPECT_THAT(said(std::string(kInit) + "if (n == 0) { ptx::barrier_expect(barrier, 16); ptx::barrier_arrive(barrier); "
                                        "ptx::barrier_arrive(barrier); }"),
              HasSubstr("already has its 2 arrivals"));
  EXPECT_THAT(said("ptx::barrier_init(barrier + 4, 1);"), HasSubstr("not a multiple of 8"));
  EXPECT_THAT(said("ptx::barrier_init(barrier + 4096, 1);"), HasSubstr("which has 4096"));
  EXPECT_THAT(said("ptx::named_barrier_sync(16, 64);"), HasSubstr("barrier 16"));
  EXPECT_THAT(said("ptx::named_barrier_sync(1, 40);"), HasSubstr("whole warps"));
  EXPECT_THAT(said("ptx::named_barrier_sync(1, n < 32 ? 32 * 2 : 32);"), HasSubstr("others came with"));
}

TEST(EmulatedSharedMemory, SeesWritesPastItsEnd) {
  const Ending ending = run_body("if (n == 0) memory[4099] = 1;");
  EXPECT_EQ(ending.result, CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_THAT(ending.said, HasSubstr("byte 4099 of shared memory was written, the launch has 4096"));
}

TEST(EmulatedCopies, ArriveWhenTheyAreWaitedFor) {
  const std::string copy =
      "__align__(16) static int values[8] = {1, 2, 3, 4, 5, 6, 7, 8};\n"
      "int* shared = reinterpret_cast<int*>(memory);\n"
      "if (n != 0) return;\n"
      "ptx::copy_async_16(barrier, values, 16);\nptx::commit_copies();\n"
      "ptx::copy_async_16(barrier + 16, values + 4, 8);\nptx::commit_copies();\n"
      "if (shared[0] != -1) __trap();\n"
      "ptx::wait_copies<1>();\n"
      "if (shared[0] != 1 || shared[3] != 4 || shared[4] != -1) __trap();\n";
  const Ending right = run_body(copy + "ptx::wait_copies<0>();\nif (shared[5] != 6 || shared[6] != 0) __trap();");
  EXPECT_EQ(right.result, CUDA_SUCCESS) << right.said;
  EXPECT_THAT(run_body(copy).said, HasSubstr("exits while 1 asynchronous copies are in flight"));
  EXPECT_THAT(run_body("ptx::copy_async_16(barrier, reinterpret_cast<void*>(24), 16);").said,
              HasSubstr("multiple of 16"));
}

}  // namespace
}  // namespace harrier::test
