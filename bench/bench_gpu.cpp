// Kernels on a GPU, one JSON command a line on stdin, one JSON answer a line on stdout: bench/gpu.py asks, so that ours
// and its peers take turns in one run.
//
//   {"do": "add", "name": N, "text": "attention ...", "batch": B, "length": L, "arrays": {"table": {"file": F, "type":
//    "int32", "shape": [..]}}}           or "lengths": [..] for a packed batch; "architecture": "sm_90" for the
//    kernels of sm_80's family; "plan": {"tile_k": 64, ..} for numbers that are not the default plan's
//   {"do": "prepare"}                    compiles all that was added on every core, draws tensors, binds
//   {"do": "tune"}                       tunes all, each for at most "budget_seconds", "full" or quick; "time" with
//   "tuned": true takes what won
//   {"do": "time", "name": N}            median of launches with a cold L2, in milliseconds
//   {"do": "sample", "name": N, "head": H, "batch": B, "queries": [..], "folder": F}   writes what a check needs
//   {"do": "launch", "name": N}          host microseconds of one enqueue
//   {"do": "cold", "name": N}            compiles again, past every cache
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "compiler/cuda/choose_cuda_plan.h"
#include "compiler/cuda/tune_cuda.h"
#include "compiler/harrier_cuda.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"

namespace harrier {
namespace {

using Json = nlohmann::ordered_json;

/// A tensor [batch, heads, length, dim] on the device, of 16-bit numbers.
struct DeviceTensor {
  cuda::DeviceMemory memory;
  CudaTensor tensor;
  int64_t heads = 0;
  int64_t length = 0;
  int64_t dim = 0;
};

struct Case {
  Workload workload;
  Geometry geometry;
  bool packed = false;
  std::string architecture;  // instead of the GPU's own
  std::optional<CudaPlan> plan;
  std::map<std::string, std::vector<std::byte>> array_bytes;
  Bindings bindings;
  std::optional<CudaSchedule> schedule;
  std::optional<CudaKernel> kernel;
  DeviceTensor q, k, v, out;
  CudaBinding bound;
  std::optional<CudaLaunch> launch;
  std::optional<CudaLaunch> tuned;
  double bind_us = 0;
  std::string error;
};

uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/// Standard normal numbers, over and over: drawing each anew would take longer than everything else.
const std::vector<uint16_t>& normal_numbers() {
  static const std::vector<uint16_t> kNumbers = [] {
    constexpr size_t kCount = 4'000'037;  // a prime, so that no two heads start alike
    std::vector<uint16_t> drawn(kCount);
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal;
    for (uint16_t& number : drawn) number = to_bf16(normal(random));
    return drawn;
  }();
  return kNumbers;
}

DeviceTensor make_tensor(const Gpu& gpu, int64_t batch, int64_t heads, int64_t length, int64_t dim, size_t seed) {
  const std::vector<uint16_t>& pool = normal_numbers();
  std::vector<uint16_t> values(static_cast<size_t>(batch * heads * length * dim));
  size_t place = seed * 1'000'003 % pool.size();
  for (size_t i = 0; i < values.size();) {
    const size_t count = std::min(values.size() - i, pool.size() - place);
    std::copy_n(pool.begin() + static_cast<std::ptrdiff_t>(place), count,
                values.begin() + static_cast<std::ptrdiff_t>(i));
    i += count;
    place = 0;
  }
  DeviceTensor made;
  made.memory = cuda::copy_to_device(gpu.device, std::as_bytes(std::span(values)));
  made.tensor = {.data = made.memory.pointer(),
                 .batch_stride = heads * length * dim,
                 .token_stride = dim,
                 .head_stride = length * dim};
  made.heads = heads;
  made.length = length;
  made.dim = dim;
  return made;
}

ElementType type_named(const std::string& name) {
  for (const ElementType type :
       {ElementType::kBool, ElementType::kUInt8, ElementType::kInt32, ElementType::kInt64, ElementType::kFloat32}) {
    if (name == name_of(type)) return type;
  }
  throw InvalidInput("type " + name + " is unknown: use bool, uint8, int32, int64 or float32");
}

std::vector<std::byte> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InvalidInput(path + " cannot be read: check the path");
  const std::vector<char> text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

Geometry equal_lengths(int64_t batch, int64_t length) {
  Geometry geometry;
  for (int64_t b = 0; b < batch; ++b) {
    geometry.sequences.push_back({length, length, length, length, b * length, b * length});
  }
  geometry.query_tokens = geometry.key_tokens = batch * length;
  return geometry;
}

/// The default plan for sm_90a, with the numbers that `changes` names.
CudaPlan changed_plan(const Workload& workload, const Json& changes) {
  CudaPlan plan = choose_cuda_plan(workload, CudaFamily::kSm90);
  const std::map<std::string, int*> numbers = {{"consumers", &plan.consumers},
                                               {"tile_k", &plan.tile_k},
                                               {"box_rows", &plan.box_rows},
                                               {"row_blocks", &plan.row_blocks},
                                               {"stages", &plan.stages},
                                               {"query_stages", &plan.query_stages},
                                               {"consumer_registers", &plan.consumer_registers},
                                               {"producer_registers", &plan.producer_registers},
                                               {"ctas_per_sm", &plan.ctas_per_sm}};
  for (const auto& [name, value] : changes.items()) {
    if (name == "ping_pong") {
      plan.ping_pong = value;
    } else if (const auto number = numbers.find(name); number != numbers.end()) {
      *number->second = value;
    } else {
      throw InvalidInput(name + " is no number of a plan: see ir/cuda_plan.h");
    }
  }
  return plan;
}

Case make_case(const Json& command) {
  Case made;
  made.workload = parse_workload(command.at("text").get<std::string>());
  made.packed = command.contains("lengths");
  made.geometry = made.packed ? packed_geometry(command.at("lengths").get<std::vector<int64_t>>())
                              : equal_lengths(command.at("batch"), command.at("length"));
  if (command.contains("arrays")) {
    for (const auto& [name, array] : command.at("arrays").items()) {
      std::vector<std::byte>& bytes = made.array_bytes[name] = read_bytes(array.at("file"));
      made.bindings[name] = {.data = bytes.data(),
                             .type = type_named(array.at("type")),
                             .shape = array.at("shape").get<std::vector<int64_t>>()};
    }
  }
  made.architecture = command.value("architecture", "");
  if (command.contains("plan")) made.plan = changed_plan(made.workload, command.at("plan"));
  if (command.contains("heads_per_group")) {
    made.schedule = CudaSchedule{.heads_per_group = command.at("heads_per_group"),
                                 .split_tiles = command.value("split_tiles", 16),
                                 .split_capacity = command.value("split_capacity", 528)};
  }
  return made;
}

void bring_to_device(const Gpu& gpu, Case& made) {
  const Shape& shape = made.workload.shape;
  const int64_t batch = made.packed ? 1 : std::ssize(made.geometry.sequences);
  const int64_t length = made.packed ? made.geometry.query_tokens : made.geometry.sequences.front().query_length;
  made.q = make_tensor(gpu, batch, shape.heads, length, shape.head_dim, 1);
  made.k = make_tensor(gpu, batch, shape.kv_heads, length, shape.head_dim, 2);
  made.v = make_tensor(gpu, batch, shape.kv_heads, length, shape.value_dim, 3);
  made.out = make_tensor(gpu, batch, shape.heads, length, shape.value_dim, 4);
  const auto start = std::chrono::steady_clock::now();
  made.bound = made.kernel->bind(made.bindings, made.geometry, {.packed = made.packed, .schedule = made.schedule});
  made.bind_us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  made.launch = made.kernel->prepare({made.q.tensor, made.k.tensor, made.v.tensor, made.out.tensor}, made.bound);
}

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
    Case& made = cases_.at(name);
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
    std::vector<std::pair<const std::string, Case>*> todo;
    for (auto& entry : cases_) {
      if (!entry.second.kernel && entry.second.error.empty()) todo.push_back(&entry);
    }
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < todo.size(); i = next++) {
        Case& made = todo[i]->second;
        try {
          CudaCompileOptions options;
          options.architecture = made.architecture;
          options.plan = made.plan;
          made.kernel = compile_cuda(made.workload, gpu_, options);
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
    for (auto* entry : todo) {
      Case& made = entry->second;
      if (made.error.empty()) {
        try {
          bring_to_device(gpu_, made);
        } catch (const Error& error) {
          made.error = error.what();
        }
      }
      Json row = {{"name", entry->first}};
      if (made.error.empty()) {
        row["plan"] = print(made.kernel->compilation().plan);
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
      made.tuned = kernel.prepare({made.q.tensor, made.k.tensor, made.v.tensor, made.out.tensor, {}}, bound);
      answer.push_back({{"name", name},
                        {"default_us", tuning.default_us},
                        {"tuned_us", tuning.tuned_us},
                        {"ratio", {tuning.ratio.low, tuning.ratio.median, tuning.ratio.high}},
                        {"plan", print(choice.plan)},
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

  Json cold(const std::string& name, const Case& made) {
    const auto start = std::chrono::steady_clock::now();
    const CudaKernel kernel = compile_cuda(made.workload, gpu_, {.use_cache = false});
    const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
    return {{"name", name}, {"total_ms", spent.count()}, {"kernel_nvrtc_ms", kernel.binary().compile_us / 1e3}};
  }

  /// k and v of one head, and q and out of some of its queries, as raw 16-bit numbers.
  Json sample(const Json& command, const Case& made) {
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
    return {{"sampled", command.at("name")}};
  }

  Gpu gpu_;
  cuda::OwnStream stream_;
  cuda::DeviceMemory flush_;
  std::map<std::string, Case> cases_;
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
}  // namespace harrier

int main() {
  try {
    return harrier::run();
  } catch (const std::exception& error) {
    std::cerr << "bench_gpu: " << error.what() << "\n";
    return 3;
  }
}
