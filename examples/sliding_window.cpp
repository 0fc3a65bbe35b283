// A sliding window over two packed sequences, from C++: build a pattern, compile it, run it.
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "compiler/harrier.h"

int main() {
  using harrier::causal;
  using harrier::sink;
  using harrier::window;

  harrier::Workload workload;
  workload.name = "sliding_window";
  workload.shape = {.heads = 2, .kv_heads = 2, .head_dim = 64, .value_dim = 64};
  workload.pattern.mask = (window(256, 0) & causal()) | (sink(4) & causal());
  workload.lengths = harrier::FixedLength{1000};
  const harrier::Kernel kernel = harrier::compile(workload);

  // Two sequences of 300 and 700 tokens, one after another, without padding.
  const std::vector<int64_t> cu_seqlens = {0, 300, 1000};
  std::vector<float> q(size_t{1000} * 2 * 64);
  for (size_t i = 0; i < q.size(); ++i) q[i] = std::sin(static_cast<float>(i));
  std::vector<float> k = q;
  std::vector<float> v = q;
  std::vector<float> out(q.size());

  const auto view = [](std::vector<float>& values) {
    return harrier::TensorView{
        .data = values.data(), .dtype = harrier::DataType::kFloat32, .shape = {1000, 2, 64}, .strides = {}};
  };
  harrier::AttentionTensors tensors;
  tensors.q = view(q);
  tensors.k = view(k);
  tensors.v = view(v);
  tensors.out = view(out);
  tensors.cu_seqlens = cu_seqlens;
  const harrier::RunReport report = kernel.run(tensors, {});

  fmt::print("{}\n", harrier::print(kernel.compilation().workload.pattern.mask));
  fmt::print("tiles: {} empty, {} partial, {} full; kernel: {:.0f} us\n", report.tiles.empty, report.tiles.partial,
             report.tiles.full, report.kernel_us);
}
