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

/// First and last tokens of some sequences, and tokens between, in order.
std::vector<int64_t> tokens_to_sample(const Geometry& geometry) {
  std::set<int64_t> tokens;
  constexpr int64_t kSequences = 8;
  const int64_t step = std::max<int64_t>(1, std::ssize(geometry.sequences) / kSequences);
  for (int64_t i = 0; i < std::ssize(geometry.sequences); i += step) {
    const Sequence& sequence = geometry.sequences[static_cast<size_t>(i)];
    if (sequence.query_length == 0) continue;
    tokens.insert(sequence.query_token);
    tokens.insert(sequence.query_token + sequence.query_length - 1);
  }
  std::mt19937_64 random(geometry.query_tokens);
  for (int64_t i = 0; i < kSampledTokens && geometry.query_tokens > 0; ++i) {
    tokens.insert(static_cast<int64_t>(random() % static_cast<uint64_t>(geometry.query_tokens)));
  }
  return {tokens.begin(), tokens.end()};
}

}  // namespace

TuneBench::TuneBench(const Gpu& gpu, const Shape& shape, const std::vector<LengthDraw>& draws, uint64_t seed)
    : gpu_(gpu), shape_(shape), draws_(draws), stream_(gpu.device) {
  for (const LengthDraw& draw : draws) {
    tokens_ = std::max({tokens_, draw.geometry.query_tokens, draw.geometry.key_tokens});
  }
  q_ = make_tensor(shape.heads, shape.head_dim, 4 * seed);
  k_ = make_tensor(shape.kv_heads, shape.head_dim, 4 * seed + 1);
  v_ = make_tensor(shape.kv_heads, shape.value_dim, 4 * seed + 2);
  out_ = make_tensor(shape.heads, shape.value_dim, 4 * seed + 3);
  flush_ = cuda::DeviceMemory(gpu.device, std::max<int64_t>(2 * gpu.device->facts().l2_bytes, 256));
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
  return kernel.prepare({.q = q_.view, .k = k_.view, .v = v_.view, .out = out_.view}, bound);
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

std::vector<float> TuneBench::read_rows(const Tensor& tensor, int64_t heads, int64_t columns, int64_t first,
                                        int64_t count) const {
  std::vector<uint16_t> raw(static_cast<size_t>(count * tensor.row_elements));
  cuda::copy_to_host(*gpu_.device, std::as_writable_bytes(std::span(raw)),
                     tensor.memory.pointer() + static_cast<uint64_t>(first * tensor.row_elements) * sizeof(uint16_t));
  std::vector<float> values;
  values.reserve(static_cast<size_t>(count * heads * columns));
  const int64_t row = padded_columns(columns);
  for (int64_t i = 0; i < count * heads; ++i) {
    for (int64_t column = 0; column < columns; ++column) {
      const uint16_t bits = raw[static_cast<size_t>(i * row + column)];
      values.push_back(shape_.dtype == DataType::kFloat16 ? from_fp16(bits) : from_bf16(bits));
    }
  }
  return values;
}

SampledRows TuneBench::sample(const CudaLaunch& launch, size_t draw) {
  constexpr unsigned char kNanByte = 0xff;
  {
    const cuda::CurrentContext current(*gpu_.device);
    const cuda::Driver& driver = gpu_.device->driver();
    cuda::check(
        driver,
        driver.fill_bytes(out_.memory.pointer(), kNanByte, static_cast<size_t>(out_.memory.bytes()), stream_.get()),
        "filling the output");
  }
  run(launch);
  SampledRows rows{.tokens = tokens_to_sample(draws_[draw].geometry), .values = {}};
  for (const int64_t token : rows.tokens) {
    const std::vector<float> row = read_rows(out_, shape_.heads, shape_.value_dim, token, 1);
    rows.values.insert(rows.values.end(), row.begin(), row.end());
  }
  return rows;
}

TuneBench::HostTensors TuneBench::inputs(const std::vector<int64_t>& query_tokens, int64_t first_key,
                                         int64_t key_count) const {
  HostTensors tensors;
  for (const int64_t token : query_tokens) {
    const std::vector<float> row = read_rows(q_, shape_.heads, shape_.head_dim, token, 1);
    tensors.q.insert(tensors.q.end(), row.begin(), row.end());
  }
  tensors.k = read_rows(k_, shape_.kv_heads, shape_.head_dim, first_key, key_count);
  tensors.v = read_rows(v_, shape_.kv_heads, shape_.value_dim, first_key, key_count);
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
