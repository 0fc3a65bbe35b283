// What a CUDA kernel costs where nothing is cached: passes, NVRTC for the kernel and, beside it, for the kernels that
// build lists and order. Needs NVRTC and no GPU.
#include <benchmark/benchmark.h>

#include <string>

#include "compiler/harrier_cuda.h"

namespace {

using harrier::CudaBinaries;
using harrier::CudaCompilation;
using harrier::CudaTarget;

struct Case {
  const char* name;
  const char* pattern;
  int head_dim;
};

constexpr Case kCases[] = {
    {"dense_d128", "mask all", 128},
    {"causal_d64", "mask causal", 64},
    {"causal_d128", "mask causal", 128},
    {"sliding1k_d128", "mask window(1023, 0)", 128},
    {"longformer_d64", "mask window(256, 256) | global(64)", 64},
    {"bigbird_d64", "mask blocks(64, @table)", 64},
    {"documents_d128", "mask documents(@segment) & causal", 128},
};

void cold_compile(benchmark::State& state, const Case& wanted, const std::string& architecture) {
  const std::string text = "attention bench {\n heads 16  head_dim " + std::to_string(wanted.head_dim) +
                           "  dtype bf16\n " + wanted.pattern + "\n lengths fixed(8192)\n}\n";
  const CudaTarget h100{.architecture = architecture, .multiprocessors = 132, .l2_bytes = int64_t{50} << 20};
  try {
    const harrier::cuda::Nvrtc nvrtc = harrier::cuda::load_nvrtc();
    double kernel_us = 0;
    double builder_us = 0;
    for (auto _ : state) {
      const CudaCompilation compilation = harrier::prepare_cuda(harrier::parse_workload(text), h100);
      const CudaBinaries binaries = harrier::compile_source(nvrtc, compilation, false);
      kernel_us += binaries.kernel.compile_us;
      builder_us += binaries.builder.compile_us;
    }
    const auto rounds = static_cast<double>(state.iterations());
    state.counters["kernel_ms"] = kernel_us / rounds / 1e3;
    state.counters["builder_ms"] = builder_us / rounds / 1e3;
  } catch (const harrier::Error& error) {
    state.SkipWithError(error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const char* architecture : {"sm_90a", "sm_80"}) {
    for (const Case& wanted : kCases) {
      benchmark::RegisterBenchmark((std::string("cold_compile/") + wanted.name + "/" + architecture).c_str(),
                                   cold_compile, wanted, std::string(architecture))
          ->UseRealTime()
          ->Iterations(3)
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
