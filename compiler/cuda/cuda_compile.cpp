#include <fmt/format.h>

#include <chrono>
#include <future>

#include "codegen/cuda/emit_builder.h"
#include "codegen/cuda/emit_stub.h"
#include "codegen/cuda/kernel_files.h"
#include "codegen/cuda/table_use.h"
#include "compiler/cuda/cuda_code.h"
#include "compiler/harrier_cuda.h"
#include "ir/error.h"

namespace harrier {
namespace {

/// What slows a kernel down and is no error: registers that spill, products that the compiler serialised.
std::string complaint_of(const cuda::CudaBinary& binary) {
  for (const cuda::EntryUse& entry : binary.entries) {
    if (entry.spill_bytes > 0) return fmt::format("{} spills {} bytes", entry.name, entry.spill_bytes);
  }
  return binary.notes.empty() ? std::string() : "the compiler serialised products: " + binary.notes.front();
}

double microseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Gpu open_gpu(const GpuOptions& options) {
  auto device = std::make_shared<const cuda::OpenDevice>(cuda::load_driver(options.libcuda), options.ordinal);
  cuda::architecture_of(device->facts());
  return {.device = std::move(device), .nvrtc = cuda::load_nvrtc(options.libnvrtc)};
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

std::shared_ptr<const CudaCode> compile_code(const Workload& workload, const Gpu& gpu,
                                             const CudaCompileOptions& options, bool sorted_segments) {
  auto code = std::make_shared<CudaCode>();
  code->gpu = gpu;
  code->workload = workload;
  code->options = options;
  code->options.observer = {};  // what it refers to may be gone when falling segment ids compile again
  PassObserver observer = options.observer;
  observer.times = &code->compile_times;
  CudaTarget target = target_of(gpu);
  if (!options.architecture.empty()) target.architecture = options.architecture;
  code->compilation = prepare_cuda(workload, target, options.plan, observer, sorted_segments);
  const auto compile_start = std::chrono::steady_clock::now();
  CudaBinaries binaries = compile_source(gpu.nvrtc, code->compilation, options.use_cache, options.stop);
  // The pattern may need more registers than the default plan leaves: then a roomier one.
  for (std::string complaint = complaint_of(binaries.kernel); !complaint.empty() && !options.plan;) {
    const std::optional<CudaPlan> roomier = roomier_plan(code->compilation.plan);
    code->notes.push_back(fmt::format("{} under the plan \"{}\"{}", complaint, print(code->compilation.plan),
                                      roomier ? ": a roomier one was taken" : ""));
    if (!roomier) break;
    code->compilation = prepare_cuda(workload, target, roomier, {}, sorted_segments);
    binaries = compile_source(gpu.nvrtc, code->compilation, options.use_cache, options.stop);
    complaint = complaint_of(binaries.kernel);
  }
  code->binary = std::move(binaries.kernel);
  code->compile_times.push_back({"nvrtc", microseconds_since(compile_start)});

  const auto start = std::chrono::steady_clock::now();
  const CudaPlan& plan = code->compilation.plan;
  const int64_t shared = shared_bytes(plan, code->compilation.workload.shape);
  const int threads = cuda_threads(plan);
  code->module = std::make_unique<cuda::LoadedModule>(gpu.device, code->binary.image);
  code->forward = code->module->function(kCudaForwardName, shared);
  code->combine = code->module->function(kCudaCombineName);
  code->builder_module = std::make_unique<cuda::LoadedModule>(gpu.device, binaries.builder.image);
  const LoweredPattern lowered = cuda_pattern(code->compilation.lowered, plan);
  if (key_source_of(lowered) == CudaKeySource::kLists) {
    code->build_lists = code->builder_module->function(kCudaListsName);
  }
  code->measure_rows = code->builder_module->function(kCudaMeasureName);
  code->cut_rows = code->builder_module->function(kCudaCutName);
  code->order_rows = code->builder_module->function(kCudaOrderName);
  const int ctas = cuda::resident_ctas(*gpu.device, code->forward, threads, shared);
  if (ctas < 1) {
    throw DeviceError(DeviceFailure::kLaunch, "no CTA of the plan \"" + print(plan) + "\" fits a multiprocessor of " +
                                                  gpu.device->facts().name + ": choose a smaller one");
  }
  code->shape = {.grid_x = static_cast<unsigned>(ctas * gpu.device->facts().multiprocessors),
                 .grid_y = 1,
                 .threads = static_cast<unsigned>(threads),
                 .shared_bytes = shared};
  code->compile_times.push_back({"load", microseconds_since(start)});
  return code;
}

std::shared_ptr<const CudaCode> code_for_unsorted(const std::shared_ptr<const CudaCode>& code) {
  if (!code->compilation.sorted_segments) return code;
  const std::lock_guard lock(code->mutex);
  if (!code->unsorted) code->unsorted = compile_code(code->workload, code->gpu, code->options, false);
  return code->unsorted;
}

CudaKernel compile_cuda(const Workload& workload, const Gpu& gpu, const CudaCompileOptions& options) {
  return CudaKernel(compile_code(workload, gpu, options, true));
}

const CudaCompilation& CudaKernel::compilation() const { return code_->compilation; }
const cuda::CudaBinary& CudaKernel::binary() const { return code_->binary; }
const std::vector<std::string>& CudaKernel::notes() const { return code_->notes; }
const std::vector<PassTime>& CudaKernel::compile_times() const { return code_->compile_times; }

}  // namespace harrier
