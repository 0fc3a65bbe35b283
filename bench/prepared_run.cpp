#include "bench/prepared_run.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <variant>

#include "ir/match.h"

namespace harrier::bench {
namespace {

TensorView view(std::vector<float>& values, int64_t batch, int64_t heads, int64_t length, int64_t dim) {
  return {.data = values.data(), .dtype = DataType::kFloat32, .shape = {batch, heads, length, dim}, .strides = {}};
}

/// For query blocks 1 to `rows` of each head, `count` different blocks that the row does not see anyway.
std::vector<int32_t> random_blocks(int64_t heads, int64_t rows, int64_t count) {
  std::mt19937_64 random(4);
  std::vector<int32_t> blocks;
  blocks.reserve(heads * rows * count);
  for (int64_t row = 0; row < heads * rows; ++row) {
    const int64_t own = row % rows + 1;
    const size_t begin = blocks.size();
    while (std::ssize(blocks) - static_cast<int64_t>(begin) < count) {
      const auto block = static_cast<int32_t>(1 + random() % static_cast<uint64_t>(rows));
      const bool is_seen = std::abs(block - own) <= 1;
      if (!is_seen && std::find(blocks.begin() + static_cast<int64_t>(begin), blocks.end(), block) == blocks.end()) {
        blocks.push_back(block);
      }
    }
  }
  return blocks;
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::vector<float> random_floats(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> values(count);
  // The upper 24 bits, so that every value is exact in a float.
  for (float& value : values) value = static_cast<float>(random() >> 40U) / 8388608.0F - 1.0F;
  return values;
}

std::string workload_text(const std::string& name) {
  const std::string path = std::string(HARRIER_SOURCE_DIR) + "/bench/workloads/" + name + ".attn";
  std::ifstream file(path);
  if (!file) throw InvalidInput("workload file '" + path + "' cannot be read; run from the tree that it was built in");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<int32_t> document_segments(int64_t length) {
  LengthDistribution trace = TraceLength{.path = "document_lengths.csv", .lengths = {}};
  load_trace(trace, std::string(HARRIER_SOURCE_DIR) + "/tests/data");
  std::vector<int32_t> segments;
  segments.reserve(length);
  int32_t document = 0;
  for (const int64_t words : match(
           trace, [](const TraceLength& t) { return t.lengths; }, [](const auto&) { return std::vector<int64_t>(); })) {
    const auto room = length - static_cast<int64_t>(segments.size());
    segments.insert(segments.end(), std::min(words, room), document++);
  }
  segments.resize(length, document);
  return segments;
}

PreparedRun::PreparedRun(const Workload& workload, int64_t length, int threads)
    : workload_(workload), kernel_(compile(workload, {.target = {}, .threads = threads, .observer = {}})) {
  const Shape& shape = workload.shape;
  if (shape.dtype != DataType::kFloat32) throw InvalidInput("benchmarks run fp32 only; set dtype fp32");
  q_ = random_floats(workload.batch * shape.heads * length * shape.head_dim, 1);
  k_ = random_floats(workload.batch * shape.kv_heads * length * shape.head_dim, 2);
  v_ = random_floats(workload.batch * shape.kv_heads * length * shape.value_dim, 3);
  out_.resize(workload.batch * shape.heads * length * shape.value_dim);
  tensors_.q = view(q_, workload.batch, shape.heads, length, shape.head_dim);
  tensors_.k = view(k_, workload.batch, shape.kv_heads, length, shape.head_dim);
  tensors_.v = view(v_, workload.batch, shape.kv_heads, length, shape.value_dim);
  tensors_.out = view(out_, workload.batch, shape.heads, length, shape.value_dim);
  bind_arrays(length);
  if (shape.direction == Direction::kBackward) prepare_backward(length, threads);
}

RunReport PreparedRun::run() const {
  if (workload_.shape.direction == Direction::kForward) return kernel_.run(tensors_, bindings_);
  return kernel_.run_backward(tensors_, gradients_, bindings_);
}

void PreparedRun::prepare_backward(int64_t length, int threads) {
  const Shape& shape = workload_.shape;
  const int64_t batch = workload_.batch;
  lse_.resize(batch * shape.heads * length);
  d_out_ = random_floats(std::ssize(out_), 5);
  d_q_.resize(q_.size());
  d_k_.resize(k_.size());
  d_v_.resize(v_.size());
  tensors_.lse = {
      .data = lse_.data(), .dtype = DataType::kFloat32, .shape = {batch, shape.heads, length}, .strides = {}};
  gradients_.d_out = view(d_out_, batch, shape.heads, length, shape.value_dim);
  gradients_.d_q = view(d_q_, batch, shape.heads, length, shape.head_dim);
  gradients_.d_k = view(d_k_, batch, shape.kv_heads, length, shape.head_dim);
  gradients_.d_v = view(d_v_, batch, shape.kv_heads, length, shape.value_dim);
  Workload forward = workload_;
  forward.shape.direction = Direction::kForward;
  compile(forward, {.target = {}, .threads = threads, .observer = {}}).run(tensors_, bindings_);
}

void PreparedRun::bind_arrays(int64_t length) {
  const Workload& workload = workload_;
  const Shape& shape = workload.shape;
  for (const ArrayUse& use : array_uses(workload.pattern)) {
    ArrayView& bound = bindings_[use.name];
    bound.type = ElementType::kInt32;
    if (use.role == ArrayRole::kSegment) {
      integers_.push_back(document_segments(length));
      bound.shape = {length};
    } else if (use.role == ArrayRole::kRandomBlocks) {
      const auto& pattern = std::get<BigBird>(workload.pattern.mask.node);
      const int64_t rows = (length + pattern.block - 1) / pattern.block - 2;
      integers_.push_back(random_blocks(shape.heads, rows, pattern.random));
      bound.shape = {shape.heads, rows, pattern.random};
    } else {
      throw InvalidInput("workload '" + workload.name + "' binds '@" + use.name + "', a " + name_of(use.role) +
                         "; benchmarks can only make segment ids and random blocks");
    }
    bound.data = integers_.back().data();
  }
}

double PreparedRun::useful_flops() const {
  const Shape& shape = workload_.shape;
  const auto pairs = count_visible_pairs(workload_.pattern, shape, check_tensors(tensors_, shape), bindings_);
  const int64_t products = shape.direction == Direction::kForward ? shape.head_dim + shape.value_dim
                                                                  : 3 * shape.head_dim + 2 * shape.value_dim;
  return 2.0 * static_cast<double>(products) * static_cast<double>(pairs);
}

}  // namespace harrier::bench
