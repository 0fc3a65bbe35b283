#include "compiler/cuda/tune_bench.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "autotune/paired_ratios.h"
#include "ir/error.h"

namespace harrier {
namespace {

constexpr int64_t kSampledTokens = 96;
constexpr int64_t kColumnsOfCopy = 8;  // rows on the device are multiples of 16 bytes
constexpr double kTimedUs = 500;       // short launches are repeated for as long as that
constexpr int kMostLaunches = 5;

uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float from_bf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

/// Normal numbers of a few units only: no infinities, no subnormals that matter.
uint16_t to_fp16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const int exponent = static_cast<int>(bits >> 23 & 0xff) - 127 + 15;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  const uint32_t mantissa = (bits & 0x7fffff) + 0xfff + (bits >> 13 & 1);
  return static_cast<uint16_t>(sign + (static_cast<uint32_t>(exponent) << 10) + (mantissa >> 13));
}

float from_fp16(uint16_t bits) {
  const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
  const int exponent = bits >> 10 & 0x1f;
  const auto mantissa = static_cast<float>(bits & 0x3ff);
  if (exponent == 0x1f) {
    return mantissa == 0 ? sign * std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

int64_t padded_columns(int64_t columns) { return (columns + kColumnsOfCopy - 1) / kColumnsOfCopy * kColumnsOfCopy; }

/// Tokens of a sequence, among those of all.
struct Stretch {
  int64_t first;
  int64_t count;
};

/// First and last tokens of some sequences, and tokens between, in order.
std::vector<int64_t> tokens_to_sample(const std::vector<Stretch>& sequences, int64_t all) {
  std::set<int64_t> tokens;
  constexpr int64_t kSequences = 8;
  const int64_t step = std::max<int64_t>(1, std::ssize(sequences) / kSequences);
  for (int64_t i = 0; i < std::ssize(sequences); i += step) {
    const Stretch& sequence = sequences[static_cast<size_t>(i)];
    if (sequence.count == 0) continue;
    tokens.insert(sequence.first);
    tokens.insert(sequence.first + sequence.count - 1);
  }
  std::mt19937_64 random(static_cast<uint64_t>(all));
  for (int64_t i = 0; i < kSampledTokens && all > 0; ++i) {
    tokens.insert(static_cast<int64_t>(random() % static_cast<uint64_t>(all)));
  }
  return {tokens.begin(), tokens.end()};
}

std::vector<int64_t> queries_to_sample(const Geometry& geometry) {
  std::vector<Stretch> sequences;
  for (const Sequence& each : geometry.sequences) sequences.push_back({each.query_token, each.query_length});
  return tokens_to_sample(sequences, geometry.query_tokens);
}

std::vector<int64_t> keys_to_sample(const Geometry& geometry) {
  std::vector<Stretch> sequences;
  for (const Sequence& each : geometry.sequences) sequences.push_back({each.key_token, each.key_length});
  return tokens_to_sample(sequences, geometry.key_tokens);
}

}  // namespace

TuneBench::TuneBench(const Gpu& gpu, const Shape& shape, const std::vector<LengthDraw>& draws, uint64_t seed,
                     const std::optional<CudaKernel>& forward)
    : gpu_(gpu), shape_(shape), draws_(draws), stream_(gpu.device) {
  for (const LengthDraw& draw : draws) {
    tokens_ = std::max({tokens_, draw.geometry.query_tokens, draw.geometry.key_tokens});
  }
  constexpr uint64_t kTensors = 8;
  uint64_t next = kTensors * seed;
  q_ = make_tensor(shape.heads, shape.head_dim, next++);
  k_ = make_tensor(shape.kv_heads, shape.head_dim, next++);
  v_ = make_tensor(shape.kv_heads, shape.value_dim, next++);
  flush_ = cuda::DeviceMemory(gpu.device, std::max<int64_t>(2 * gpu.device->facts().l2_bytes, 256));
  if (shape.direction == Direction::kForward) {
    out_ = make_tensor(shape.heads, shape.value_dim, next++);
    return;
  }
  HARRIER_CHECK(forward, "gradients are made of what a forward kernel writes");
  d_out_ = make_tensor(shape.heads, shape.value_dim, next++);
  d_q_ = make_tensor(shape.heads, shape.head_dim, next++);
  d_k_ = make_tensor(shape.kv_heads, shape.head_dim, next++);
  d_v_ = make_tensor(shape.kv_heads, shape.value_dim, next++);
  for (size_t draw = 0; draw < draws.size(); ++draw) forward_.push_back(run_forward(*forward, draw, next));
}

CudaLse TuneBench::lse_of(const ForwardResults& results) const {
  return {.data = results.lse.pointer(), .batch_stride = 0, .head_stride = tokens_, .token_stride = 1};
}

TuneBench::ForwardResults TuneBench::run_forward(const CudaKernel& forward, size_t draw, uint64_t seed) {
  const LengthDraw& inputs = draws_[draw];
  ForwardResults results{.out = make_tensor(shape_.heads, shape_.value_dim, seed), .lse = {}};
  results.lse = cuda::DeviceMemory(gpu_.device, shape_.heads * tokens_ * static_cast<int64_t>(sizeof(float)));
  const CudaBinding bound = forward.bind(inputs.bindings, inputs.geometry, {.packed = true});
  run(forward.prepare({.q = q_.view, .k = k_.view, .v = v_.view, .out = results.out.view, .lse = lse_of(results)},
                      bound));
  return results;
}

TuneBench::Tensor TuneBench::make_tensor(int64_t heads, int64_t columns, uint64_t seed) const {
  // Numbers over and over: drawing each anew would take longer than everything else.
  constexpr size_t kDrawn = 262'147;  // a prime, so that no two heads start alike
  std::vector<uint16_t> drawn(kDrawn);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (uint16_t& number : drawn) {
    const float value = normal(random);
    number = shape_.dtype == DataType::kFloat16 ? to_fp16(value) : to_bf16(value);
  }
  Tensor tensor;
  const int64_t row = padded_columns(columns);
  tensor.row_elements = heads * row;
  std::vector<uint16_t> values(static_cast<size_t>(std::max<int64_t>(tokens_ * tensor.row_elements, kColumnsOfCopy)));
  for (size_t i = 0; i < values.size(); i += kDrawn) {
    std::copy_n(drawn.begin(), std::min(kDrawn, values.size() - i), values.begin() + static_cast<std::ptrdiff_t>(i));
  }
  tensor.memory = cuda::copy_to_device(gpu_.device, std::as_bytes(std::span(values)));
  tensor.view = {
      .data = tensor.memory.pointer(), .batch_stride = 0, .token_stride = tensor.row_elements, .head_stride = row};
  return tensor;
}

CudaLaunch TuneBench::prepare(const CudaKernel& kernel, const std::optional<CudaSchedule>& schedule, size_t draw) {
  const LengthDraw& inputs = draws_[draw];
  const CudaBinding bound = kernel.bind(inputs.bindings, inputs.geometry, {.packed = true, .schedule = schedule});
  if (shape_.direction == Direction::kForward) {
    return kernel.prepare({.q = q_.view, .k = k_.view, .v = v_.view, .out = out_.view}, bound);
  }
  const ForwardResults& results = forward_[draw];
  return kernel.prepare_backward(
      {.q = q_.view, .k = k_.view, .v = v_.view, .out = results.out.view, .lse = lse_of(results)},
      {.d_out = d_out_.view, .d_q = d_q_.view, .d_k = d_k_.view, .d_v = d_v_.view}, bound);
}

double TuneBench::time_us(const CudaLaunch& launch) {
  const cuda::CurrentContext current(*gpu_.device);
  const cuda::Driver& driver = gpu_.device->driver();
  std::vector<double> times;
  for (double spent = 0; times.empty() || (spent < kTimedUs && std::ssize(times) < kMostLaunches);) {
    cuda::check(driver, driver.fill_bytes(flush_.pointer(), 0, static_cast<size_t>(flush_.bytes()), stream_.get()),
                "flushing L2");
    times.push_back(stream_.time([&] { launch.enqueue(stream_.get()); }));
    spent += times.back();
  }
  return autotune::median_of(times);
}

void TuneBench::run(const CudaLaunch& launch) {
  const cuda::CurrentContext current(*gpu_.device);
  launch.enqueue(stream_.get());
  stream_.synchronize();
}

std::vector<float> TuneBench::read_rows(const Tensor& tensor, Heads heads, int64_t columns, int64_t first,
                                        int64_t count) const {
  std::vector<uint16_t> raw(static_cast<size_t>(count * tensor.row_elements));
  if (raw.empty()) return {};
  cuda::copy_to_host(*gpu_.device, std::as_writable_bytes(std::span(raw)),
                     tensor.memory.pointer() + static_cast<uint64_t>(first * tensor.row_elements) * sizeof(uint16_t));
  std::vector<float> values;
  values.reserve(static_cast<size_t>(count * heads.count * columns));
  const int64_t row = padded_columns(columns);
  for (int64_t token = 0; token < count; ++token) {
    for (int64_t head = heads.first; head < heads.first + heads.count; ++head) {
      for (int64_t column = 0; column < columns; ++column) {
        const uint16_t bits = raw[static_cast<size_t>(token * tensor.row_elements + head * row + column)];
        values.push_back(shape_.dtype == DataType::kFloat16 ? from_fp16(bits) : from_bf16(bits));
      }
    }
  }
  return values;
}

SampledRows TuneBench::read_sample(const char* name, const Tensor& tensor, int64_t heads, int64_t columns,
                                   std::vector<int64_t> tokens) const {
  SampledRows rows{.tensor = name, .tokens = std::move(tokens), .values = {}};
  for (const int64_t token : rows.tokens) {
    const std::vector<float> row = read_rows(tensor, {0, heads}, columns, token, 1);
    rows.values.insert(rows.values.end(), row.begin(), row.end());
  }
  return rows;
}

std::vector<SampledRows> TuneBench::sample(const CudaLaunch& launch, size_t draw) {
  const bool backward = shape_.direction == Direction::kBackward;
  {
    constexpr unsigned char kNanByte = 0xff;
    const cuda::CurrentContext current(*gpu_.device);
    const cuda::Driver& driver = gpu_.device->driver();
    const std::vector<const Tensor*> written =
        backward ? std::vector<const Tensor*>{&d_q_, &d_k_, &d_v_} : std::vector<const Tensor*>{&out_};
    for (const Tensor* tensor : written) {
      cuda::check(driver,
                  driver.fill_bytes(tensor->memory.pointer(), kNanByte, static_cast<size_t>(tensor->memory.bytes()),
                                    stream_.get()),
                  "filling an output");
    }
  }
  run(launch);
  const Geometry& geometry = draws_[draw].geometry;
  const std::vector<int64_t> queries = queries_to_sample(geometry);
  if (!backward) return {read_sample("output", out_, shape_.heads, shape_.value_dim, queries)};
  const std::vector<int64_t> keys = keys_to_sample(geometry);
  return {read_sample("d_q", d_q_, shape_.heads, shape_.head_dim, queries),
          read_sample("d_k", d_k_, shape_.kv_heads, shape_.head_dim, keys),
          read_sample("d_v", d_v_, shape_.kv_heads, shape_.value_dim, keys)};
}

TuneBench::HostTensors TuneBench::inputs(const std::vector<int64_t>& query_tokens, int64_t first_key,
                                         int64_t key_count) const {
  return {.q = read_sample("q", q_, shape_.heads, shape_.head_dim, query_tokens).values,
          .k = read_rows(k_, {0, shape_.kv_heads}, shape_.head_dim, first_key, key_count),
          .v = read_rows(v_, {0, shape_.kv_heads}, shape_.value_dim, first_key, key_count)};
}

TuneBench::GradientTensors TuneBench::gradient_inputs(size_t draw, const Sequence& sequence, int64_t kv_head) const {
  const int64_t count = shape_.heads / shape_.kv_heads;
  const Heads group{.first = kv_head * count, .count = count};
  const auto of_queries = [&](const Tensor& tensor, int64_t columns) {
    return read_rows(tensor, group, columns, sequence.query_token, sequence.query_length);
  };
  const auto of_keys = [&](const Tensor& tensor, int64_t columns) {
    return read_rows(tensor, {kv_head, 1}, columns, sequence.key_token, sequence.key_length);
  };
  GradientTensors tensors{.q = of_queries(q_, shape_.head_dim),
                          .out = of_queries(forward_[draw].out, shape_.value_dim),
                          .d_out = of_queries(d_out_, shape_.value_dim),
                          .lse = std::vector<float>(static_cast<size_t>(count * sequence.query_length)),
                          .k = of_keys(k_, shape_.head_dim),
                          .v = of_keys(v_, shape_.value_dim)};
  for (int64_t head = 0; head < count && sequence.query_length > 0; ++head) {
    const int64_t place = (group.first + head) * tokens_ + sequence.query_token;
    const auto of_head =
        std::span(tensors.lse)
            .subspan(static_cast<size_t>(head * sequence.query_length), static_cast<size_t>(sequence.query_length));
    cuda::copy_to_host(*gpu_.device, std::as_writable_bytes(of_head),
                       forward_[draw].lse.pointer() + static_cast<uint64_t>(place) * sizeof(float));
  }
  return tensors;
}

double relative_error(const std::vector<float>& values, const std::vector<float>& reference) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < values.size() && i < reference.size(); ++i) {
    if (std::isnan(values[i]) != std::isnan(reference[i])) return std::numeric_limits<double>::infinity();
    if (std::isnan(values[i])) continue;
    const double apart = double{values[i]} - double{reference[i]};
    difference += apart * apart;
    norm += double{reference[i]} * double{reference[i]};
  }
  if (values.size() != reference.size()) return std::numeric_limits<double>::infinity();
  if (norm == 0) return difference == 0 ? 0 : std::numeric_limits<double>::infinity();
  return std::sqrt(difference / norm);
}

}  // namespace harrier
