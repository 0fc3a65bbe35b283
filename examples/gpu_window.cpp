// A sliding window on the GPU, on arrays of the host: open the GPU, compile, run. Without a GPU it says why and is
// done.
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "compiler/harrier_cuda.h"

namespace {

constexpr int64_t kTokens = 1000;
constexpr int64_t kHeads = 2;
constexpr int64_t kDim = 64;

std::optional<harrier::Gpu> find_gpu() {
  try {
    return harrier::open_gpu();
  } catch (const harrier::Error& error) {
    // DeviceError: no driver, no GPU, one that is too old. ToolchainError: no NVRTC.
    fmt::print("nothing to run on: {}\n", error.what());
    return std::nullopt;
  }
}

/// bfloat16 is the upper half of a float; to the nearest.
uint16_t as_bf16(float value) { return static_cast<uint16_t>((std::bit_cast<uint32_t>(value) + 0x8000U) >> 16U); }

int run(const harrier::Gpu& gpu) {
  using harrier::causal;
  using harrier::sink;
  using harrier::window;

  harrier::Workload workload;
  workload.name = "gpu_window";
  workload.shape = {
      .heads = kHeads, .kv_heads = kHeads, .head_dim = kDim, .value_dim = kDim, .dtype = harrier::DataType::kBFloat16};
  workload.pattern.mask = causal() & (window(256, 0) | sink(4));
  workload.lengths = harrier::FixedLength{kTokens};
  const harrier::CudaKernel kernel = harrier::compile_cuda(workload, gpu);

  // Two sequences of 300 and 700 tokens, one after another, without padding.
  std::vector<uint16_t> q(size_t{kTokens * kHeads * kDim});
  for (size_t i = 0; i < q.size(); ++i) q[i] = as_bf16(std::sin(static_cast<float>(i)));
  std::vector<uint16_t> k = q;
  std::vector<uint16_t> v = q;
  std::vector<uint16_t> out(q.size());
  const auto view = [](std::vector<uint16_t>& values) {
    return harrier::TensorView{
        .data = values.data(), .dtype = harrier::DataType::kBFloat16, .shape = {kTokens, kHeads, kDim}, .strides = {}};
  };
  harrier::AttentionTensors tensors;
  tensors.q = view(q);
  tensors.k = view(k);
  tensors.v = view(v);
  tensors.out = view(out);
  tensors.cu_seqlens = {0, 300, kTokens};
  const harrier::RunReport report = kernel.run(tensors, {});

  const harrier::CudaCompilation& compilation = kernel.compilation();
  fmt::print("{}, {}\n", gpu.device->facts().name, compilation.target.architecture);
  fmt::print("{}\nplan: {}\n", harrier::print(compilation.workload.pattern.mask),
             harrier::print(compilation.plan, compilation.workload.shape.direction));
  fmt::print("kernel: {:.0f} us on the GPU\n", report.kernel_us);
  // The first token of a sequence sees itself alone, so its output is its value.
  for (const size_t token : {size_t{0}, size_t{300}}) {
    for (size_t i = token * kHeads * kDim; i < (token + 1) * kHeads * kDim; ++i) {
      if (out[i] == v[i]) continue;
      fmt::print("element {} of the output is wrong\n", i);
      return 1;
    }
  }
  return 0;
}

}  // namespace

int main() {
  try {
    const std::optional<harrier::Gpu> gpu = find_gpu();
    return gpu ? run(*gpu) : 0;
  } catch (const harrier::Error& error) {
    fmt::print(stderr, "gpu_window: {}\n", error.what());
    return 1;
  }
}
