// Everything that happens before a kernel runs: text to callable, and the classification of tiles.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "bench/prepared_run.h"

namespace {

using harrier::bench::workload_text;

void text_to_callable(benchmark::State& state, const std::string& name) {
  const std::string text = workload_text(name);
  for (auto _ : state) {
    const harrier::Kernel kernel = harrier::compile(harrier::parse_workload(text));
    benchmark::DoNotOptimize(kernel.compilation());
  }
}

/// One classify_tiles of a single sequence, for a mask that binds no arrays, over the tile size that its plan has.
void classify(benchmark::State& state, const std::string& mask, int64_t length, int64_t heads) {
  const std::string text = "attention bench { heads " + std::to_string(heads) + " head_dim 64 dtype fp32 mask " + mask +
                           " lengths fixed(" + std::to_string(length) + ") }";
  const harrier::Kernel kernel = harrier::compile(harrier::parse_workload(text));
  const harrier::Compilation& compilation = kernel.compilation();
  const harrier::Shape& shape = compilation.workload.shape;
  const harrier::Pattern& pattern = compilation.workload.pattern;
  const harrier::Geometry geometry = {.sequences = {{.query_length = length,
                                                     .key_length = length,
                                                     .query_valid = length,
                                                     .key_valid = length,
                                                     .query_token = 0,
                                                     .key_token = 0}},
                                      .query_tokens = length,
                                      .key_tokens = length};
  const harrier::BoundPattern bound = harrier::bind(pattern, shape, compilation.lowered, geometry, {});
  size_t runs = 0;
  size_t rows = 0;
  for (auto _ : state) {
    const harrier::TileMap map =
        harrier::classify_tiles(pattern, shape, bound, geometry, compilation.plan.tile_q, compilation.plan.tile_k);
    runs = map.runs.size();
    rows = map.run_offsets.size() - 1;
  }
  state.counters["rows"] = static_cast<double>(rows);
  state.counters["runs"] = static_cast<double>(runs);
  state.counters["map_bytes"] = static_cast<double>(runs * sizeof(harrier::KeyRun) + rows * sizeof(int64_t));
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const char* name : {"dense_4k_d64", "dense_4k_d128", "window256_16k_d64", "bigbird_4k_d64", "longformer_4k_d64",
                           "documents_16k_d64"}) {
    benchmark::RegisterBenchmark((std::string("text_to_callable/") + name).c_str(), text_to_callable, std::string(name))
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
  for (const int64_t length : {int64_t{1} << 16, int64_t{1} << 18, int64_t{1} << 20}) {
    benchmark::RegisterBenchmark(("classify_tiles/window256/" + std::to_string(length)).c_str(), classify,
                                 std::string("window(256, 0)"), length, int64_t{12})
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
  for (const int64_t length : {int64_t{4096}, int64_t{16384}, int64_t{32768}}) {
    benchmark::RegisterBenchmark(("classify_tiles/bigbird/" + std::to_string(length)).c_str(), classify,
                                 std::string("bigbird(block=64, random=3, seed=0)"), length, int64_t{12})
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
