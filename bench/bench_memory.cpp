// Peak memory that a run adds to what the caller holds, against length: it must grow linearly.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <fstream>
#include <string>

#include "bench/prepared_run.h"

namespace {

/// Kilobytes of one field of /proc/self/status ("VmRSS", "VmHWM").
int64_t status_kilobytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1));
  }
  return 0;
}

/// Makes the high-water mark of the process what it holds now (see proc(5), clear_refs).
void reset_high_water_mark() { std::ofstream("/proc/self/clear_refs") << "5"; }

void memory(benchmark::State& state, const std::string& mask) {
  const int64_t length = state.range(0);
  const std::string text = "attention bench { heads 1 head_dim 64 dtype fp32 mask " + mask + " lengths fixed(" +
                           std::to_string(length) + ") }";
  const harrier::bench::PreparedRun prepared(harrier::parse_workload(text), length, harrier::bench::usable_cores());
  int64_t extra_kilobytes = 0;
  for (auto _ : state) {
    malloc_trim(0);  // what earlier work freed must not serve this run
    reset_high_water_mark();
    const int64_t before = status_kilobytes("VmRSS");
    prepared.run();
    extra_kilobytes = status_kilobytes("VmHWM") - before;
  }
  state.counters["extra_KiB"] = static_cast<double>(extra_kilobytes);
  state.counters["extra_bytes_a_token"] = static_cast<double>(extra_kilobytes) * 1024 / static_cast<double>(length);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const char* mask : {"window(256, 0)", "window(256, 0) | sink(4)", "bigbird(block=64, random=3, seed=0)"}) {
    // One iteration: from the second on, the allocator reuses what the first one left.
    benchmark::RegisterBenchmark((std::string("run_memory/") + mask).c_str(), memory, std::string(mask))
        ->RangeMultiplier(4)
        ->Range(1 << 12, 1 << 18)
        ->Iterations(1)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
