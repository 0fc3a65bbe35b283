// Streams, events, graphs and launches. Work runs when it is given, on the calling thread; what is captured runs when
// its graph is launched. A launch that fails does so as on a device: later calls say it.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "fibers.h"
#include "modules.h"
#include "settings.h"
#include "state.h"

using namespace harrier::emulated;

struct CUevent_st {
  std::chrono::steady_clock::time_point time;
  bool recorded = false;
  std::shared_ptr<Capture> capture;
};

struct CUgraph_st {
  std::vector<std::function<CUresult()>> nodes;
};

struct CUgraphExec_st {
  std::vector<std::function<CUresult()>> nodes;
};

namespace {

std::mutex captures_mutex;
std::vector<std::weak_ptr<Capture>> captures;

/// The streams that handles 0, 1 (legacy) and 2 (per thread) name.
bool is_default(CUstream stream) { return reinterpret_cast<std::uintptr_t>(stream) <= 2; }

std::shared_ptr<Capture> capture_of(CUstream stream) { return is_default(stream) ? nullptr : stream->capture; }

/// A kernel with its own copy of the arguments.
struct RecordedLaunch {
  CUfunction function;
  Launch launch;
  std::vector<std::vector<unsigned char>> arguments;

  CUresult run() {
    // Parameters may be as aligned as tensor maps are.
    std::vector<std::unique_ptr<unsigned char[]>> storage;
    std::vector<void*> pointers;
    for (const auto& argument : arguments) {
      storage.push_back(std::make_unique<unsigned char[]>(argument.size() + 64));
      void* place = storage.back().get();
      std::size_t space = argument.size() + 64;
      std::align(64, argument.size(), place, space);
      std::memcpy(place, argument.data(), argument.size());
      pointers.push_back(place);
    }
    launch.arguments = pointers.data();
    const auto outcome = run_launch(launch);
    if (outcome != Outcome::kSuccess) current_context()->sticky = static_cast<CUresult>(outcome);
    return CUDA_SUCCESS;
  }
};

CUresult refuse_launch(CUresult result, const std::string& message) {
  fmt::print(stderr, "emulated GPU: a launch is refused: {}\n", message);
  return result;
}

}  // namespace

namespace harrier::emulated {

CUresult run_or_record(CUstream stream, std::function<CUresult()> work) {
  const auto capture = capture_of(stream);
  if (capture == nullptr) return work();
  if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  capture->nodes.push_back(std::move(work));
  return CUDA_SUCCESS;
}

CUresult refuse_in_capture() {
  const std::lock_guard lock(captures_mutex);
  bool refused = false;
  for (const auto& entry : captures) {
    const auto capture = entry.lock();
    if (capture == nullptr || capture->mode == 2) continue;
    if (capture->mode == 1 && capture->thread != std::this_thread::get_id()) continue;
    capture->invalid = refused = true;
  }
  return refused ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

}  // namespace harrier::emulated

HARRIER_EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                                       CUstream stream, void** arguments, void** extra) {
  HARRIER_ENTER(Needs::kContext);
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const auto& facts = function->facts;
  const std::string& name = function->name;
  if (extra != nullptr || (arguments == nullptr && facts.parameters > 0)) {
    return refuse_launch(CUDA_ERROR_INVALID_VALUE, fmt::format("{} wants an array of pointers to its arguments", name));
  }
  const unsigned long long threads = 1ull * block_x * block_y * block_z;
  if (threads == 0 || grid_x == 0 || grid_y == 0 || grid_z == 0 || grid_y > 65535 || grid_z > 65535 || block_z > 64) {
    return refuse_launch(CUDA_ERROR_INVALID_VALUE, fmt::format("{} on a grid of {} x {} x {} CTAs of {} threads", name,
                                                               grid_x, grid_y, grid_z, threads));
  }
  if (threads > static_cast<unsigned long long>(facts.max_threads)) {
    return refuse_launch(CUDA_ERROR_INVALID_VALUE,
                         fmt::format("{} with {} threads, its launch bounds say {}", name, threads, facts.max_threads));
  }
  if (shared_bytes > function->dynamic_shared_limit) {
    return refuse_launch(CUDA_ERROR_INVALID_VALUE,
                         fmt::format("{} with {} bytes of shared memory, its limit was set to {}", name, shared_bytes,
                                     function->dynamic_shared_limit));
  }
  if (const int fault = injected_fault(shared_bytes); fault != 0) return current_context()->sticky = fault;
  if (shared_bytes + 1024u > static_cast<unsigned>(device_attribute(81))) {
    return refuse_launch(
        CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
        fmt::format("{} with {} bytes of shared memory, more than the device has", name, shared_bytes));
  }
  auto recorded = std::make_shared<RecordedLaunch>();
  recorded->function = function;
  recorded->launch = {name,        function->entry, nullptr, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z},
                      shared_bytes};
  for (int i = 0; i < facts.parameters; ++i) {
    if (arguments[i] == nullptr) {
      return refuse_launch(CUDA_ERROR_INVALID_VALUE, fmt::format("argument {} of {} is null", i, name));
    }
    const auto* bytes = static_cast<const unsigned char*>(arguments[i]);
    recorded->arguments.emplace_back(bytes, bytes + facts.sizes[i]);
  }
  return run_or_record(stream, [recorded] { return recorded->run(); });
}

HARRIER_EXPORT CUresult cuStreamCreate(CUstream* stream, unsigned) {
  HARRIER_ENTER(Needs::kContext);
  if (stream == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *stream = new CUstream_st;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
  HARRIER_ENTER(Needs::kContext);
  if (is_default(stream)) return CUDA_ERROR_INVALID_HANDLE;
  delete stream;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuStreamSynchronize(CUstream stream) {
  HARRIER_ENTER(Needs::kContext);
  const auto capture = capture_of(stream);
  if (capture == nullptr) return CUDA_SUCCESS;
  capture->invalid = true;
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

HARRIER_EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  HARRIER_ENTER(Needs::kContext);
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  // Waiting for what a captured stream recorded joins the capture.
  if (event->capture != nullptr && !is_default(stream)) stream->capture = event->capture;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuStreamIsCapturing(CUstream stream, int* status) {
  HARRIER_ENTER(Needs::kContext);
  if (status == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto capture = capture_of(stream);
  *status = capture == nullptr ? 0 : capture->invalid ? 2 : 1;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  HARRIER_ENTER(Needs::kContext);
  if (is_default(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (mode < 0 || mode > 2 || stream->capture != nullptr) return CUDA_ERROR_INVALID_VALUE;
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  const std::lock_guard lock(captures_mutex);
  captures.push_back(stream->capture);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  HARRIER_ENTER(Needs::kContext);
  const auto capture = capture_of(stream);
  if (graph == nullptr || capture == nullptr || capture->origin != stream) return CUDA_ERROR_INVALID_VALUE;
  stream->capture = nullptr;
  {
    const std::lock_guard lock(captures_mutex);
    std::erase_if(captures, [&](const auto& entry) { return entry.expired() || entry.lock() == capture; });
  }
  *graph = nullptr;
  if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  *graph = new CUgraph_st{capture->nodes};
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
  HARRIER_ENTER(Needs::kContext);
  if (executable == nullptr || graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *executable = new CUgraphExec_st{graph->nodes};
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  HARRIER_ENTER(Needs::kContext);
  if (executable == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto nodes = executable->nodes;
  return run_or_record(stream, [nodes] {
    for (const auto& node : nodes) {
      if (const CUresult result = node(); result != CUDA_SUCCESS) return result;
    }
    return CUresult{CUDA_SUCCESS};
  });
}

HARRIER_EXPORT CUresult cuGraphExecDestroy(CUgraphExec executable) {
  HARRIER_ENTER(Needs::kContext);
  delete executable;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuGraphDestroy(CUgraph graph) {
  HARRIER_ENTER(Needs::kContext);
  delete graph;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuEventCreate(CUevent* event, unsigned) {
  HARRIER_ENTER(Needs::kContext);
  if (event == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *event = new CUevent_st;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuEventRecord(CUevent event, CUstream stream) {
  HARRIER_ENTER(Needs::kContext);
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  event->capture = capture_of(stream);
  if (event->capture != nullptr) return CUDA_SUCCESS;
  event->time = std::chrono::steady_clock::now();
  event->recorded = true;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuEventSynchronize(CUevent event) {
  HARRIER_ENTER(Needs::kContext);
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return event->capture == nullptr ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

HARRIER_EXPORT CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
  HARRIER_ENTER(Needs::kContext);
  if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (begin == nullptr || end == nullptr || !begin->recorded || !end->recorded) return CUDA_ERROR_INVALID_HANDLE;
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuEventDestroy_v2(CUevent event) {
  HARRIER_ENTER(Needs::kContext);
  delete event;
  return CUDA_SUCCESS;
}
