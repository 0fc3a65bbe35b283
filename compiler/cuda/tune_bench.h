// Runs candidates on the GPU for the tuner: tensors, launches, times, and whether outputs agree.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compiler/cuda/plan_costs.h"
#include "compiler/harrier_cuda.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"

namespace harrier {

/// Rows of a tensor [token, head, column] as numbers.
struct SampledRows {
  const char* tensor = "";  // "output", or "d_q", "d_k", "d_v"
  std::vector<int64_t> tokens;
  std::vector<float> values;  // [token of `tokens`][head][column]
};

class TuneBench {
 public:
  /// Random tensors for the longest draw. Of a backward shape `forward` is the same workload's kernel of the other
  /// direction, which runs once on every draw: gradients are made of what it writes. Throws DeviceError where memory
  /// does not do.
  TuneBench(const Gpu& gpu, const Shape& shape, const std::vector<LengthDraw>& draws, uint64_t seed,
            const std::optional<CudaKernel>& forward = {});

  /// A kernel of the shape's direction under a schedule, bound to a draw. A backward one makes the gradients of q, k
  /// and v.
  CudaLaunch prepare(const CudaKernel& kernel, const std::optional<CudaSchedule>& schedule, size_t draw);

  /// Microseconds of one launch: the median of a few, each with an L2 that holds nothing of its inputs.
  double time_us(const CudaLaunch& launch);

  /// Launches once and waits.
  void run(const CudaLaunch& launch);

  /// Runs once on what it writes filled with NaN, and reads some rows of each of these tensors back.
  std::vector<SampledRows> sample(const CudaLaunch& launch, size_t draw);

  /// The same rows of the inputs' values, whole: for a reference on the host.
  struct HostTensors {
    std::vector<float> q;  // [token of `tokens`][head][column]
    std::vector<float> k;  // [token][kv head][column], of the tokens asked for
    std::vector<float> v;
  };
  HostTensors inputs(const std::vector<int64_t>& query_tokens, int64_t first_key, int64_t key_count) const;

  /// What the gradients of a sequence of a draw are made of, for one key head and the query heads that read it.
  struct GradientTensors {
    std::vector<float> q, out, d_out;  // [query][query head][column]
    std::vector<float> lse;            // [query head][query]
    std::vector<float> k, v;           // [key][column]
  };
  GradientTensors gradient_inputs(size_t draw, const Sequence& sequence, int64_t kv_head) const;

 private:
  struct Tensor {
    cuda::DeviceMemory memory;
    CudaTensor view;
    int64_t row_elements = 0;  // of one token
  };
  /// Heads of a tensor.
  struct Heads {
    int64_t first = 0;
    int64_t count = 0;
  };
  /// What a forward launch wrote.
  struct ForwardResults {
    Tensor out;
    cuda::DeviceMemory lse;
  };
  Tensor make_tensor(int64_t heads, int64_t columns, uint64_t seed) const;
  std::vector<float> read_rows(const Tensor& tensor, Heads heads, int64_t columns, int64_t first, int64_t count) const;
  SampledRows read_sample(const char* name, const Tensor& tensor, int64_t heads, int64_t columns,
                          std::vector<int64_t> tokens) const;
  CudaLse lse_of(const ForwardResults& results) const;
  ForwardResults run_forward(const CudaKernel& forward, size_t draw, uint64_t seed);

  Gpu gpu_;
  Shape shape_;
  const std::vector<LengthDraw>& draws_;
  int64_t tokens_ = 0;
  Tensor q_, k_, v_;
  Tensor out_;                           // of a forward shape
  std::vector<ForwardResults> forward_;  // of a backward one, for each draw; as are the gradients
  Tensor d_out_, d_q_, d_k_, d_v_;
  cuda::OwnStream stream_;
  cuda::DeviceMemory flush_;
};

/// How far two outputs are apart: the norm of the difference over the norm of the reference. Infinite where one is not
/// a number and the other is.
double relative_error(const std::vector<float>& values, const std::vector<float>& reference);

}  // namespace harrier
