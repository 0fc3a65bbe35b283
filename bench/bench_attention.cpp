// Attention kernels against what the same cores can do at most. The peak is measured anew before each workload, with as
// many threads, so that a busy or throttled machine lowers both.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>

#include "bench/fma_peak.h"
#include "bench/prepared_run.h"

namespace {

using harrier::bench::FmaPeak;
using harrier::bench::PreparedRun;

int64_t fixed_length(const harrier::Workload& workload) { return harrier::quantile(workload.lengths, 1.0); }

void attention(benchmark::State& state, const std::string& name, harrier::Direction direction, int threads) {
  harrier::Workload workload = harrier::parse_workload(harrier::bench::workload_text(name));
  workload.shape.direction = direction;
  const PreparedRun prepared(workload, fixed_length(workload), threads);
  harrier::RunReport report = prepared.run();
  const FmaPeak peak = harrier::bench::measure_fma_peak(threads);

  double kernel_us = 0;
  for (auto _ : state) {
    report = prepared.run();
    kernel_us += report.kernel_us;
  }
  const double flops = prepared.useful_flops() * static_cast<double>(state.iterations());
  const auto tiles = static_cast<double>(report.tiles.empty + report.tiles.full + report.tiles.partial);
  using benchmark::Counter;
  state.counters["useful_GFLOPs"] = Counter(flops * 1e-9, Counter::kIsRate);
  state.counters["peak_GFLOPs"] = peak.gflops;
  state.counters["share_of_peak"] = Counter(flops * 1e-9 / peak.gflops, Counter::kIsRate);
  state.counters["kernel_us"] = Counter(kernel_us, Counter::kAvgIterations);
  state.counters["tiles_skipped"] = static_cast<double>(report.tiles.empty) / tiles;
  state.counters["tiles_partial"] = static_cast<double>(report.tiles.partial) / tiles;
}

void fma_peak(benchmark::State& state, int threads) {
  FmaPeak peak;
  for (auto _ : state) peak = harrier::bench::measure_fma_peak(threads);
  state.counters["peak_GFLOPs"] = peak.gflops;
  state.counters["vector_lanes"] = peak.vector_lanes;
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const int threads = harrier::bench::usable_cores();
  benchmark::RegisterBenchmark("fma_peak", fma_peak, threads)->UseRealTime()->Unit(benchmark::kMillisecond);
  const auto add = [threads](const std::string& entry, const std::string& name, harrier::Direction direction) {
    benchmark::RegisterBenchmark(entry.c_str(), attention, name, direction, threads)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond)
        ->MinTime(1.0);
  };
  for (const std::string name : {"dense_4k_d64", "dense_4k_d128", "causal_4k_d64", "causal_4k_d128",
                                 "window256_16k_d64", "bigbird_4k_d64", "longformer_4k_d64", "documents_16k_d64"}) {
    add(name, name, harrier::Direction::kForward);
  }
  for (const std::string name :
       {"dense_2k_d64", "dense_4k_d128", "causal_4k_d64", "window256_16k_d64", "bigbird_4k_d64", "documents_16k_d64"}) {
    add("backward/" + name, name, harrier::Direction::kBackward);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
