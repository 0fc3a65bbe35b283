#include "gpu_case.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <random>
#include <span>

#include "compiler/cuda/choose_cuda_plan.h"
#include "runtime/cuda/stream.h"

namespace harrier::bench {
namespace {

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

CudaTensors tensors_of(const GpuCase& made) {
  CudaTensors tensors{made.q.tensor, made.k.tensor, made.v.tensor, made.out.tensor};
  if (!is_backward(made)) return tensors;
  tensors.lse = {.data = made.lse.pointer(),
                 .batch_stride = made.q.heads * made.q.length,
                 .head_stride = made.q.length,
                 .token_stride = 1};
  return tensors;
}

}  // namespace

bool is_backward(const GpuCase& made) { return made.workload.shape.direction == Direction::kBackward; }

GpuCase make_case(const Json& command) {
  GpuCase made;
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

CudaLaunch prepare_launch(const GpuCase& made, const CudaKernel& kernel, const CudaBinding& bound) {
  if (!is_backward(made)) return kernel.prepare(tensors_of(made), bound);
  const GradientTensors& gradients = made.gradients;
  return kernel.prepare_backward(tensors_of(made),
                                 {.d_out = gradients.d_out.tensor,
                                  .d_q = gradients.d_q.tensor,
                                  .d_k = gradients.d_k.tensor,
                                  .d_v = gradients.d_v.tensor},
                                 bound);
}

void bring_to_device(const Gpu& gpu, GpuCase& made, const std::optional<CudaKernel>& forward) {
  const Shape& shape = made.workload.shape;
  const int64_t batch = made.packed ? 1 : std::ssize(made.geometry.sequences);
  const int64_t length = made.packed ? made.geometry.query_tokens : made.geometry.sequences.front().query_length;
  made.q = make_tensor(gpu, batch, shape.heads, length, shape.head_dim, 1);
  made.k = make_tensor(gpu, batch, shape.kv_heads, length, shape.head_dim, 2);
  made.v = make_tensor(gpu, batch, shape.kv_heads, length, shape.value_dim, 3);
  made.out = make_tensor(gpu, batch, shape.heads, length, shape.value_dim, 4);
  if (is_backward(made)) {
    made.lse = cuda::DeviceMemory(gpu.device, batch * shape.heads * length * static_cast<int64_t>(sizeof(float)));
    made.gradients = {.d_out = make_tensor(gpu, batch, shape.heads, length, shape.value_dim, 5),
                      .d_q = make_tensor(gpu, batch, shape.heads, length, shape.head_dim, 6),
                      .d_k = make_tensor(gpu, batch, shape.kv_heads, length, shape.head_dim, 7),
                      .d_v = make_tensor(gpu, batch, shape.kv_heads, length, shape.value_dim, 8)};
    const CudaBinding bound = forward.value().bind(made.bindings, made.geometry, {.packed = made.packed});
    const CudaLaunch launch = forward->prepare(tensors_of(made), bound);
    cuda::OwnStream stream(gpu.device);
    const cuda::CurrentContext current(*gpu.device);
    launch.enqueue(stream.get());
    stream.synchronize();
  }
  const auto start = std::chrono::steady_clock::now();
  made.bound = made.kernel->bind(made.bindings, made.geometry, {.packed = made.packed, .schedule = made.schedule});
  made.bind_us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  made.launch = prepare_launch(made, *made.kernel, made.bound);
}

}  // namespace harrier::bench
