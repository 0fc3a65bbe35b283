#include "cli/backend.h"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "compiler/harrier_cuda.h"

namespace harrier {
namespace {

Runnable compile_on_cpu(const RunOptions& options, const Workload& workload, const PassObserver& observer) {
  const Kernel kernel = compile(workload, {.target = {}, .threads = options.threads, .observer = observer});
  return {.backend = "cpu",
          .workload = kernel.compilation().workload,
          .plan = print(kernel.compilation().plan),
          .compile_times = kernel.compile_times(),
          .run = [kernel](const AttentionTensors& tensors, const Bindings& bindings,
                          const PassObserver& watch) { return kernel.run(tensors, bindings, watch); },
          .run_backward =
              [kernel](const AttentionTensors& tensors, const AttentionGradients& gradients, const Bindings& bindings,
                       const PassObserver& watch) { return kernel.run_backward(tensors, gradients, bindings, watch); }};
}

Runnable compile_on_gpu(const Gpu& gpu, const RunOptions& options, const Workload& workload,
                        const PassObserver& observer, std::vector<std::string>& notes) {
  // Kept beyond this call: the kernel may compile again, and then warn.
  const auto warnings = std::make_shared<std::vector<std::string>>();
  StoreHandle store;
  if (!options.no_cache) {
    store = open_store({.warn = [warnings](const std::string& warning) { warnings->push_back(warning); }});
  }
  const CudaKernel kernel = compile_cuda(
      workload, gpu, {.plan = {}, .use_cache = !options.no_cache, .stop = {}, .observer = observer, .store = store});
  const CudaCompilation& compilation = kernel.compilation();
  notes.insert(notes.end(), warnings->begin(), warnings->end());
  notes.insert(notes.end(), kernel.notes().begin(), kernel.notes().end());
  return {.backend = fmt::format("cuda ({}, {})", gpu.device->facts().name, compilation.target.architecture),
          .workload = compilation.workload,
          .plan = print(compilation.plan, compilation.workload.shape.direction),
          .compile_times = kernel.compile_times(),
          .run = [kernel](const AttentionTensors& tensors, const Bindings& bindings,
                          const PassObserver& watch) { return kernel.run(tensors, bindings, watch); },
          .run_backward =
              [kernel](const AttentionTensors& tensors, const AttentionGradients& gradients, const Bindings& bindings,
                       const PassObserver& watch) { return kernel.run_backward(tensors, gradients, bindings, watch); }};
}

/// The GPU where one can be used. Nothing, and no note, on a machine without any.
std::optional<Gpu> find_gpu(std::vector<std::string>& notes) {
  try {
    return open_gpu();
  } catch (const DeviceError& error) {
    const bool absent = error.failure() == DeviceFailure::kNoDriver || error.failure() == DeviceFailure::kNoDevice;
    if (!absent) notes.push_back(fmt::format("the cpu runs this, for the GPU cannot: {}", error.what()));
  }
  return std::nullopt;
}

}  // namespace

Runnable compile_for(const RunOptions& options, const Workload& workload, const PassObserver& observer,
                     std::vector<std::string>& notes) {
  if (options.backend == "cuda") return compile_on_gpu(open_gpu(), options, workload, observer, notes);
  if (options.backend == "cpu") return compile_on_cpu(options, workload, observer);
  const std::optional<Gpu> gpu = find_gpu(notes);
  if (!gpu) return compile_on_cpu(options, workload, observer);
  try {
    return compile_on_gpu(*gpu, options, workload, observer, notes);
  } catch (const InvalidInput& error) {
    // What no CUDA kernel does; if the workload itself is at fault, the CPU says so too.
    notes.push_back(fmt::format("the cpu runs this, for the GPU cannot: {}", error.what()));
  } catch (const ToolchainError& error) {
    // No NVRTC, say, and nothing in the cache.
    notes.push_back(fmt::format("the cpu runs this, for the GPU cannot: {}", error.what()));
  }
  return compile_on_cpu(options, workload, observer);
}

}  // namespace harrier
