// What remembering costs: a process that finds its kernel in the store, and one that has it already.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <stdexcept>

#include "compiler/single_flight.h"
#include "store/artifacts.h"
#include "store/sha256.h"

namespace harrier {
namespace {

constexpr int64_t kKernels = 200;
constexpr size_t kKernelBytes = 44'000;  // a cubin of the sm_90a family

Artifact artifact_of(int64_t number) {
  std::mt19937_64 random(static_cast<uint64_t>(number));
  std::vector<char> kernel(kKernelBytes);
  for (char& byte : kernel) byte = static_cast<char>(random());
  std::vector<char> builder(kernel.begin(), kernel.begin() + kKernelBytes / 2);
  return {.source_key = sha256_of_texts({std::to_string(number)}),
          .toolchain = "NVRTC 13.0",
          .architecture = "sm_90a",
          .parts = {{.name = "builder", .bytes = std::move(builder)}, {.name = "kernel", .bytes = std::move(kernel)}}};
}

/// A store of many kernels in a folder that goes away.
class FilledStore {
 public:
  FilledStore() : folder_((std::filesystem::temp_directory_path() / "harrier-bench-XXXXXX").string()) {
    if (mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("no temporary folder");
    const StoreHandle store = open_store({.folder = folder_});
    for (int64_t i = 0; i < kKernels; ++i) put_artifact(*store, artifact_of(i));
  }
  ~FilledStore() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  FilledStore(const FilledStore&) = delete;
  FilledStore& operator=(const FilledStore&) = delete;

  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

std::string key_of(int64_t number) {
  const Artifact artifact = artifact_of(number);
  return artifact_key(artifact.source_key, artifact.toolchain);
}

/// What a warm process pays before it loads its kernel. Another process keeps the store open, as on a busy machine.
void open_and_find(benchmark::State& state) {
  const FilledStore filled;
  const StoreHandle other = open_store({.folder = filled.folder()});
  const std::string key = key_of(kKernels / 2);
  for (auto _ : state) {
    const StoreHandle store = open_store({.folder = filled.folder()});
    const std::optional<Artifact> found = find_artifact(*store, key);
    if (!found) state.SkipWithError("the kernel is not there");
    benchmark::DoNotOptimize(found);
  }
}
BENCHMARK(open_and_find)->Unit(benchmark::kMicrosecond);

void find(benchmark::State& state) {
  const FilledStore filled;
  const StoreHandle store = open_store({.folder = filled.folder()});
  const std::string key = key_of(kKernels / 2);
  for (auto _ : state) benchmark::DoNotOptimize(find_artifact(*store, key));
}
BENCHMARK(find)->Unit(benchmark::kMicrosecond);

void put(benchmark::State& state) {
  const FilledStore filled;
  const StoreHandle store = open_store({.folder = filled.folder()});
  int64_t number = kKernels;
  for (auto _ : state) {
    state.PauseTiming();
    Artifact artifact = artifact_of(number++);
    state.ResumeTiming();
    put_artifact(*store, std::move(artifact));
  }
}
BENCHMARK(put)->Unit(benchmark::kMicrosecond);

/// In a process that has compiled or loaded it: CudaCompiler's map, by the kernel's source of some kilobytes.
void find_in_process(benchmark::State& state) {
  SingleFlight<int> made;
  std::string source(6000, 'x');
  for (int64_t i = 0; i < kKernels; ++i) {
    made.get(source + std::to_string(i), [] { return std::make_shared<const int>(1); });
  }
  const std::string key = source + std::to_string(kKernels / 2);
  for (auto _ : state) {
    benchmark::DoNotOptimize(made.get(key, [] { return std::make_shared<const int>(1); }));
  }
}
BENCHMARK(find_in_process)->Unit(benchmark::kNanosecond);

}  // namespace
}  // namespace harrier

BENCHMARK_MAIN();
