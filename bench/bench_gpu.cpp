// Kernels on a GPU, one JSON command a line on stdin, one JSON answer a line on stdout: bench/gpu.py asks, so that ours
// and its peers take turns in one run.
//
//   {"do": "add", "name": N, "text": "attention ...", "batch": B, "length": L, "arrays": {"table": {"file": F, "type":
//    "int32", "shape": [..]}}}           or "lengths": [..] for a packed batch; "architecture": "sm_90" for the
//    kernels of sm_80's family; "plan": {"tile_k": 64, ..} for numbers that are not the default plan's
//    A text with direction backward is a case of gradients.
//   {"do": "prepare"}                    compiles all that was added on every core, draws tensors, binds
//   {"do": "tune"}                       tunes all, each for at most "budget_seconds", "full" or quick; "time" with
//   "tuned": true takes what won
//   {"do": "time", "name": N}            median of launches with a cold L2, in milliseconds
//   {"do": "sample", "name": N, "head": H, "batch": B, "folder": F}   writes what a check needs
//   {"do": "launch", "name": N}          host microseconds of one enqueue
//   {"do": "cold", "name": N}            compiles again, past every cache
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <thread>

#include "compiler/cuda/tune_cuda.h"
#include "compiler/harrier_cuda.h"
#include "gpu_case.h"
#include "runtime/cuda/stream.h"

namespace harrier::bench {
namespace {

class Bench {
 public:
  Bench() : gpu_(open_gpu()), stream_(gpu_.device) {
    // Twice the largest L2: overwritten before every timed launch.
    flush_ = cuda::DeviceMemory(gpu_.device, int64_t{256} << 20);
  }

  Json answer(const Json& command) {
    const std::string what = command.at("do");
    if (what == "prepare") return prepare();
    if (what == "tune") return tune(command);
    const std::string name = command.at("name");
    if (what == "add") {
      cases_[name] = make_case(command);
      return {{"added", name}};
    }
    GpuCase& made = cases_.at(name);
    if (!made.error.empty()) return {{"name", name}, {"error", made.error}};
    if (what == "time") {
      const bool tuned = command.value("tuned", false) && made.tuned;
      return {{"name", name}, {"ms", time(tuned ? *made.tuned : *made.launch)}};
    }
    if (what == "launch") return {{"name", name}, {"us", host_us(*made.launch)}};
    if (what == "cold") return cold(name, made);
    if (what == "sample") return sample(command, made);
    throw InvalidInput(what + " is unknown: use add, prepare, time, launch, cold or sample");
  }

  Json describe() const {
    return {{"device", gpu_.device->facts().name},
            {"driver", gpu_.device->driver().version},
            {"nvrtc", fmt::format("{}.{}", gpu_.nvrtc->major, gpu_.nvrtc->minor)}};
  }

 private:
  Json prepare() {
    std::vector<std::pair<const std::string, GpuCase>*> todo;
    for (auto& entry : cases_) {
      if (!entry.second.kernel && entry.second.error.empty()) todo.push_back(&entry);
    }
    std::vector<std::optional<CudaKernel>> forwards(todo.size());
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < todo.size(); i = next++) {
        GpuCase& made = todo[i]->second;
        try {
          CudaCompileOptions options;
          options.architecture = made.architecture;
          options.plan = made.plan;
          made.kernel = compile_cuda(made.workload, gpu_, options);
          if (is_backward(made)) forwards[i] = compile_forward(made);
        } catch (const Error& error) {
          made.error = error.what();
        }
      }
    };
    {
      std::vector<std::jthread> pool;
      for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) pool.emplace_back(work);
    }
    Json answer = Json::array();
    for (size_t i = 0; i < todo.size(); ++i) {
      auto* entry = todo[i];
      GpuCase& made = entry->second;
      if (made.error.empty()) {
        try {
          bring_to_device(gpu_, made, forwards[i]);
        } catch (const Error& error) {
          made.error = error.what();
        }
      }
      Json row = {{"name", entry->first}};
      if (made.error.empty()) {
        row["plan"] = print(made.kernel->compilation().plan, made.workload.shape.direction);
        row["schedule"] = print(made.launch->schedule());
        row["split_rows"] = made.launch->split_rows();
        row["workspace_bytes"] = made.launch->workspace_bytes();
        row["bind_us"] = made.bind_us;
        row["build_us"] = build_us(made.bound);
      } else {
        row["error"] = made.error;
      }
      answer.push_back(row);
    }
    return answer;
  }

  CudaKernel compile_forward(const GpuCase& made) const {
    Workload forward = made.workload;
    forward.shape.direction = Direction::kForward;
    return compile_cuda(forward, gpu_, {.architecture = made.architecture});
  }

  /// Every case by the library's own tuner, one after another; what won is what "time" with "tuned" takes.
  Json tune(const Json& command) {
    TuneOptions options;
    options.budget_seconds = command.value("budget_seconds", options.budget_seconds);
    options.full = command.value("full", false);
    Json answer = Json::array();
    for (auto& [name, made] : cases_) {
      if (!made.error.empty() || !made.architecture.empty() || made.plan) continue;
      const Tuning tuning = tune_cuda(made.workload, {{made.geometry, made.bindings}}, gpu_, options);
      const autotune::Choice& choice = tuning.candidates[tuning.winner].choice;
      const CudaKernel kernel =
          tuning.winner == 0 ? *made.kernel : compile_cuda(made.workload, gpu_, {.plan = choice.plan});
      const CudaBinding bound =
          kernel.bind(made.bindings, made.geometry, {.packed = made.packed, .schedule = choice.schedule});
      made.tuned = prepare_launch(made, kernel, bound);
      answer.push_back({{"name", name},
                        {"default_us", tuning.default_us},
                        {"tuned_us", tuning.tuned_us},
                        {"ratio", {tuning.ratio.low, tuning.ratio.median, tuning.ratio.high}},
                        {"plan", print(choice.plan, made.workload.shape.direction)},
                        {"schedule", print(made.tuned->schedule())},
                        {"candidates", tuning.candidates.size()},
                        {"measurements", tuning.measurements},
                        {"out_of_time", tuning.out_of_time},
                        {"seconds", tuning.seconds}});
    }
    return answer;
  }

  double once_ms(const CudaLaunch& launch) {
    const cuda::Driver& driver = gpu_.device->driver();
    driver.fill_bytes(flush_.pointer(), 0, static_cast<size_t>(flush_.bytes()), stream_.get());
    return stream_.time([&] { launch.enqueue(stream_.get()); }) / 1e3;
  }

  double time(const CudaLaunch& launch, double warm_ms = 30, double timed_ms = 120) {
    const cuda::CurrentContext current(*gpu_.device);
    const double first = once_ms(launch);
    for (double spent = 0; spent < warm_ms; spent += std::max(first, 0.01)) once_ms(launch);
    std::vector<double> times;
    for (double spent = 0; spent < timed_ms || times.size() < 5; spent += times.back())
      times.push_back(once_ms(launch));
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2];
  }

  double host_us(const CudaLaunch& launch) {
    const cuda::CurrentContext current(*gpu_.device);
    constexpr int kLaunches = 200;  // fewer than the queue holds
    launch.enqueue(stream_.get());
    stream_.synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kLaunches; ++i) launch.enqueue(stream_.get());
    const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
    stream_.synchronize();
    return spent.count() / kLaunches;
  }

  Json cold(const std::string& name, const GpuCase& made) {
    const auto start = std::chrono::steady_clock::now();
    const CudaKernel kernel = compile_cuda(made.workload, gpu_, {.use_cache = false});
    const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
    return {{"name", name}, {"total_ms", spent.count()}, {"kernel_nvrtc_ms", kernel.binary().compile_us / 1e3}};
  }

  /// k and v of one head, and q and out of some of its queries, as raw 16-bit numbers.
  Json sample(const Json& command, const GpuCase& made) {
    const cuda::CurrentContext current(*gpu_.device);
    const std::string folder = command.at("folder");
    const int64_t head = command.at("head");
    const int64_t batch = command.at("batch");
    const Shape& shape = made.workload.shape;
    made.launch->enqueue(stream_.get());
    stream_.synchronize();
    const auto write = [&](const std::string& file, const std::vector<std::byte>& bytes) {
      std::ofstream(folder + "/" + file, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    };
    const auto rows = [&](const DeviceTensor& tensor, int64_t tensor_head) {
      std::vector<std::byte> bytes(static_cast<size_t>(tensor.length * tensor.dim * 2));
      const int64_t first = (batch * tensor.heads + tensor_head) * tensor.length * tensor.dim * 2;
      cuda::copy_to_host(*gpu_.device, bytes, tensor.memory.pointer() + static_cast<uint64_t>(first));
      return bytes;
    };
    const int64_t kv_head = head / (shape.heads / shape.kv_heads);
    write("q.bin", rows(made.q, head));
    write("k.bin", rows(made.k, kv_head));
    write("v.bin", rows(made.v, kv_head));
    write("out.bin", rows(made.out, head));
    if (is_backward(made)) {
      write("d_out.bin", rows(made.gradients.d_out, head));
      write("d_q.bin", rows(made.gradients.d_q, head));
      write("d_k.bin", rows(made.gradients.d_k, kv_head));
      write("d_v.bin", rows(made.gradients.d_v, kv_head));
    }
    return {{"sampled", command.at("name")}};
  }

  Gpu gpu_;
  cuda::OwnStream stream_;
  cuda::DeviceMemory flush_;
  std::map<std::string, GpuCase> cases_;
};

int run() {
  Bench bench;
  std::cout << bench.describe().dump() << '\n' << std::flush;
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << bench.answer(Json::parse(line)).dump() << '\n' << std::flush;
    } catch (const std::exception& error) {
      std::cout << Json{{"error", error.what()}}.dump() << '\n' << std::flush;
    }
  }
  return 0;
}

}  // namespace
}  // namespace harrier::bench

int main() {
  try {
    return harrier::bench::run();
  } catch (const std::exception& error) {
    std::cerr << "bench_gpu: " << error.what() << "\n";
    return 3;
  }
}
