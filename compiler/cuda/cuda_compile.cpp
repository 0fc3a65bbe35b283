#include <fmt/format.h>

#include <chrono>
#include <future>

#include "codegen/cuda/emit_backward_stub.h"
#include "codegen/cuda/emit_builder.h"
#include "codegen/cuda/emit_stub.h"
#include "codegen/cuda/kernel_files.h"
#include "codegen/cuda/table_use.h"
#include "compiler/cuda/cached_code.h"
#include "compiler/cuda/cuda_code.h"
#include "compiler/cuda/tuning_store.h"
#include "compiler/harrier_cuda.h"
#include "compiler/single_flight.h"
#include "ir/cuda_backward_plan.h"
#include "ir/error.h"

namespace harrier {
namespace {

double microseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::string complaint_of(const cuda::CudaBinary& binary) {
  for (const cuda::EntryUse& entry : binary.entries) {
    if (entry.spill_bytes > 0) return fmt::format("{} spills {} bytes", entry.name, entry.spill_bytes);
  }
  return binary.notes.empty() ? std::string() : "the compiler serialised products: " + binary.notes.front();
}

std::optional<CudaPlan> roomier_plan_of(const CudaCompilation& compilation) {
  const bool backward = compilation.workload.shape.direction == Direction::kBackward;
  return backward ? roomier_backward_plan(compilation.plan) : roomier_plan(compilation.plan);
}

Gpu open_gpu(const GpuOptions& options) {
  auto device = std::make_shared<const cuda::OpenDevice>(cuda::load_driver(options.libcuda), options.ordinal);
  cuda::architecture_of(device->facts());
  return {.device = std::move(device), .nvrtc = cuda::LazyNvrtc(options.libnvrtc)};
}

CudaTarget target_of(const Gpu& gpu) {
  const cuda::DeviceFacts& facts = gpu.device->facts();
  return {.architecture = cuda::architecture_of(facts),
          .multiprocessors = facts.multiprocessors,
          .l2_bytes = facts.l2_bytes};
}

CudaBinaries compile_source(const cuda::Nvrtc& nvrtc, const CudaCompilation& compilation, bool use_cache,
                            const std::stop_token& stop) {
  std::vector<cuda::IncludedFile> includes;
  for (const KernelFile& file : kernel_files()) includes.push_back({.name = file.name, .text = file.text});
  const auto source = [&](const std::string& text) {
    return cuda::CudaSource{.text = text,
                            .includes = includes,
                            .architecture = compilation.target.architecture,
                            .use_cache = use_cache,
                            .stop = stop};
  };
  // Side by side: the builder is done long before the kernel.
  std::future<cuda::CudaBinary> builder =
      std::async(std::launch::async, [&] { return cuda::compile(nvrtc, source(compilation.builder_source)); });
  CudaBinaries binaries;
  binaries.kernel = cuda::compile(nvrtc, source(compilation.source));
  binaries.builder = builder.get();
  return binaries;
}

namespace {

/// As many CTAs of a kernel as run at a time.
cuda::LaunchShape fill_device(const Gpu& gpu, const CudaCompilation& compilation, cuda::Function function, int threads,
                              int64_t shared) {
  const int ctas = cuda::resident_ctas(*gpu.device, function, threads, shared);
  if (ctas < 1) {
    throw DeviceError(DeviceFailure::kLaunch,
                      "no CTA of the plan \"" + print(compilation.plan, compilation.workload.shape.direction) +
                          "\" fits a multiprocessor of " + gpu.device->facts().name + ": choose a smaller one");
  }
  return {.grid_x = static_cast<unsigned>(ctas * gpu.device->facts().multiprocessors),
          .grid_y = 1,
          .threads = static_cast<unsigned>(threads),
          .shared_bytes = shared};
}

void load_forward(const Gpu& gpu, const CudaCompilation& compilation, LoadedCode& code) {
  const CudaPlan& plan = compilation.plan;
  const int64_t shared = shared_bytes(plan, compilation.workload.shape);
  code.forward = code.module->function(kCudaForwardName, shared);
  code.combine = code.builder_module->function(kCudaCombineName);
  code.shape = fill_device(gpu, compilation, code.forward, cuda_threads(plan), shared);
}

void load_backward(const Gpu& gpu, const CudaCompilation& compilation, LoadedCode& code) {
  const CudaPlan& plan = compilation.plan;
  const Shape& shape = compilation.workload.shape;
  const int64_t shared = shared_bytes(plan, shape);
  BackwardCode entries;
  entries.stats = code.module->function(kCudaStatsName);
  entries.columns = code.module->function(kCudaColumnsName, shared);
  entries.join_columns = code.module->function(kCudaJoinColumnsName);
  code.shape = fill_device(gpu, compilation, entries.columns, backward_threads(plan), shared);
  if (plan.family == CudaFamily::kSm90) {
    entries.queries = code.module->function(kCudaQueriesName);
  } else {
    entries.rows = code.module->function(kCudaRowsName, shared);
    entries.join_rows = code.module->function(kCudaJoinRowsName);
    entries.rows_shape = fill_device(gpu, compilation, entries.rows, backward_threads(plan), shared);
  }
  if (!compilation.slopes.in_loads.empty()) {
    const int64_t bytes = backward_arrays_bytes(plan, shape);
    entries.arrays = code.module->function(kCudaArraysName, bytes);
    entries.arrays_shape = fill_device(gpu, compilation, entries.arrays, backward_arrays_threads(plan), bytes);
  }
  if (code.build_lists != nullptr) entries.transpose_lists = code.builder_module->function(kCudaTransposeName);
  entries.measure_columns = code.builder_module->function(kCudaMeasureColumnsName);
  if (adds_in_turn(plan)) entries.cut_columns = code.builder_module->function(kCudaCutColumnsName);
  entries.order_columns = code.builder_module->function(kCudaOrderColumnsName);
  code.backward = entries;
}

std::shared_ptr<const LoadedCode> load_binaries(const Gpu& gpu, const CudaCompilation& compilation,
                                                FoundBinaries found) {
  CudaBinaries& binaries = found.binaries;
  auto code = std::make_shared<LoadedCode>();
  code->binary = std::move(binaries.kernel);
  code->artifact = std::move(found.key);
  code->was_cached = found.was_cached;
  code->module = std::make_unique<cuda::LoadedModule>(gpu.device, code->binary.image);
  code->builder_module = std::make_unique<cuda::LoadedModule>(gpu.device, binaries.builder.image);
  if (key_source_of(cuda_pattern(compilation.lowered, compilation.plan)) == CudaKeySource::kLists) {
    code->build_lists = code->builder_module->function(kCudaListsName);
  }
  code->measure_rows = code->builder_module->function(kCudaMeasureName);
  code->cut_rows = code->builder_module->function(kCudaCutName);
  code->order_rows = code->builder_module->function(kCudaOrderName);
  const bool backward = compilation.workload.shape.direction == Direction::kBackward;
  (backward ? load_backward : load_forward)(gpu, compilation, *code);
  return code;
}

std::shared_ptr<const LoadedCode> load_code(const Gpu& gpu, const CudaCompilation& compilation,
                                            const CudaCompileOptions& options) {
  return load_cached(gpu.nvrtc, compilation, options, cuda::silicon_key(gpu.device->facts()),
                     [&](FoundBinaries found) { return load_binaries(gpu, compilation, std::move(found)); });
}

/// What a source of code goes by: not what watches one compile.
CudaCompileOptions without_observer(CudaCompileOptions options) {
  options.observer = {};
  return options;
}

/// What tuning found, where the caller wants no plan of his own.
std::optional<autotune::Choice> tuned_choice(const Workload& workload, const Gpu& gpu,
                                             const CudaCompileOptions& options) {
  if (options.plan || !options.store || !options.use_tunings || !options.architecture.empty()) return std::nullopt;
  return answer_from_store(*options.store, gpu.device->facts(), workload).choice;
}

/// Code from `source`; where the pattern needs more registers than a plan leaves that nobody asked for, of a roomier
/// plan.
template <typename Source, typename BinaryOf>
auto with_room(CudaCompilation& compilation, const Workload& workload, bool may_change, std::vector<std::string>& notes,
               const Source& source, const BinaryOf& binary_of) {
  auto code = source(compilation);
  for (std::string complaint = complaint_of(binary_of(code)); !complaint.empty() && may_change;) {
    const std::optional<CudaPlan> roomier = roomier_plan_of(compilation);
    notes.push_back(fmt::format("{} under the plan \"{}\"{}", complaint,
                                print(compilation.plan, workload.shape.direction),
                                roomier ? ": a roomier one was taken" : ""));
    if (!roomier) break;
    compilation = prepare_cuda(workload, compilation.target, roomier, {}, compilation.sorted_segments);
    code = source(compilation);
    complaint = complaint_of(binary_of(code));
  }
  return code;
}

std::shared_ptr<const CudaCode> compile_code(const Workload& workload, const Gpu& gpu,
                                             const CudaCompileOptions& options, const CodeSource& source,
                                             bool sorted_segments) {
  auto code = std::make_shared<CudaCode>();
  code->gpu = gpu;
  code->workload = workload;
  code->options = without_observer(options);  // what it refers to may be gone when falling ids compile again
  code->source = source;
  PassObserver observer = options.observer;
  observer.times = &code->compile_times;
  CudaTarget target = target_of(gpu);
  if (!options.architecture.empty()) target.architecture = options.architecture;
  std::optional<CudaPlan> plan = options.plan;
  if (const std::optional<autotune::Choice> choice = tuned_choice(workload, gpu, options)) {
    plan = choice->plan;
    code->tuned_schedule = choice->schedule;
  }
  code->compilation = prepare_cuda(workload, target, plan, observer, sorted_segments);
  const auto start = std::chrono::steady_clock::now();
  code->loaded = with_room(code->compilation, workload, !options.plan, code->notes, source,
                           [](const auto& loaded) -> const cuda::CudaBinary& { return loaded->binary; });
  code->compile_times.push_back({"nvrtc and load", microseconds_since(start)});
  return code;
}

}  // namespace

CudaSchedule schedule_for(const CudaCode& code, const Geometry& geometry) {
  constexpr double kAbout = 2;
  const Shape& shape = code.compilation.workload.shape;
  if (code.tuned_schedule) {
    const double usual =
        static_cast<double>(quantile(code.workload.lengths, 0.5)) * static_cast<double>(code.workload.batch);
    const auto tokens = static_cast<double>(geometry.key_tokens);
    if (tokens <= kAbout * usual && usual <= kAbout * tokens) return *code.tuned_schedule;
  }
  const CudaCompilation& compilation = code.compilation;
  const LoweredPattern lowered = cuda_pattern(compilation.lowered, compilation.plan);
  return choose_cuda_schedule(shape, geometry,
                              {.tile_k = compilation.plan.tile_k,
                               .has_lists = key_source_of(lowered) == CudaKeySource::kLists,
                               .ctas = code.loaded->shape.grid_x,
                               .l2_bytes = compilation.target.l2_bytes});
}

std::shared_ptr<const CudaCode> code_for_unsorted(const std::shared_ptr<const CudaCode>& code) {
  if (!code->compilation.sorted_segments) return code;
  const std::lock_guard lock(code->mutex);
  if (!code->unsorted) code->unsorted = compile_code(code->workload, code->gpu, code->options, code->source, false);
  return code->unsorted;
}

CudaKernel compile_cuda(const Workload& workload, const Gpu& gpu, const CudaCompileOptions& options) {
  const CodeSource source = [gpu, kept = without_observer(options)](const CudaCompilation& wanted) {
    return load_code(gpu, wanted, kept);
  };
  return CudaKernel(compile_code(workload, gpu, options, source, true));
}

cuda::CudaBinary compile_ahead(const Workload& workload, const CudaTarget& target, const cuda::LazyNvrtc& nvrtc,
                               const CudaCompileOptions& options, const std::string& silicon_key) {
  CudaCompilation compilation = prepare_cuda(workload, target, options.plan);
  std::vector<std::string> notes;
  const auto source = [&](const CudaCompilation& wanted) {
    return find_or_compile(nvrtc, wanted, options, silicon_key);
  };
  return with_room(compilation, workload, !options.plan, notes, source,
                   [](const FoundBinaries& found) -> const cuda::CudaBinary& { return found.binaries.kernel; })
      .binaries.kernel;
}

CudaKernel compile_cuda_from(const Workload& workload, const Gpu& gpu, const CudaCompileOptions& options,
                             const BinarySource& find) {
  const CodeSource source = [gpu, find](const CudaCompilation& wanted) {
    return load_binaries(gpu, wanted, {.binaries = find(wanted), .key = {}});
  };
  return CudaKernel(compile_code(workload, gpu, options, source, true));
}

struct CudaCompiler::Cache {
  SingleFlight<LoadedCode> code;
};

CudaCompiler::CudaCompiler(Gpu gpu, CudaCompileOptions options)
    : gpu_(std::move(gpu)), options_(std::move(options)), cache_(std::make_shared<Cache>()) {}

CudaKernel CudaCompiler::compile(const Workload& workload) {
  const CodeSource source = [gpu = gpu_, cache = cache_,
                             kept = without_observer(options_)](const CudaCompilation& wanted) {
    return cache->code.get(structure_key(wanted), [&] { return load_code(gpu, wanted, kept); });
  };
  return CudaKernel(compile_code(workload, gpu_, options_, source, true));
}

int64_t CudaCompiler::compilations() const { return cache_->code.made(); }

const CudaCompilation& CudaKernel::compilation() const { return code_->compilation; }
const cuda::CudaBinary& CudaKernel::binary() const { return code_->loaded->binary; }
const std::string& CudaKernel::artifact() const { return code_->loaded->artifact; }
bool CudaKernel::was_cached() const { return code_->loaded->was_cached; }
const std::vector<std::string>& CudaKernel::notes() const { return code_->notes; }
const std::vector<PassTime>& CudaKernel::compile_times() const { return code_->compile_times; }

}  // namespace harrier
