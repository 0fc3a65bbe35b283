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
  std::vector<int64_t> tokens;
  std::vector<float> values;  // [token of `tokens`][head][column]
};

class TuneBench {
 public:
  /// Random q, k and v for the longest draw. Throws DeviceError where memory does not do.
  TuneBench(const Gpu& gpu, const Shape& shape, const std::vector<LengthDraw>& draws, uint64_t seed);

  /// A kernel under a schedule, bound to a draw.
  CudaLaunch prepare(const CudaKernel& kernel, const std::optional<CudaSchedule>& schedule, size_t draw);

  /// Microseconds of one launch: the median of a few, each with an L2 that holds nothing of its inputs.
  double time_us(const CudaLaunch& launch);

  /// Launches once and waits.
  void run(const CudaLaunch& launch);

  /// Runs once on an output filled with NaN, and reads some of its rows back.
  SampledRows sample(const CudaLaunch& launch, size_t draw);

  /// The same rows of the inputs' values, whole: for a reference on the host.
  struct HostTensors {
    std::vector<float> q;  // [token of `tokens`][head][column]
    std::vector<float> k;  // [token][kv head][column], of the tokens asked for
    std::vector<float> v;
  };
  HostTensors inputs(const std::vector<int64_t>& query_tokens, int64_t first_key, int64_t key_count) const;

 private:
  struct Tensor {
    cuda::DeviceMemory memory;
    CudaTensor view;
    int64_t row_elements = 0;  // of one token
  };
  Tensor make_tensor(int64_t heads, int64_t columns, uint64_t seed) const;
  std::vector<float> read_rows(const Tensor& tensor, int64_t heads, int64_t columns, int64_t first,
                               int64_t count) const;

  Gpu gpu_;
  Shape shape_;
  const std::vector<LengthDraw>& draws_;
  int64_t tokens_ = 0;
  Tensor q_, k_, v_, out_;
  cuda::OwnStream stream_;
  cuda::DeviceMemory flush_;
};

/// How far two outputs are apart: the norm of the difference over the norm of the reference. Infinite where one is not
/// a number and the other is.
double relative_error(const std::vector<float>& values, const std::vector<float>& reference);

}  // namespace harrier
