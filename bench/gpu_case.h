// A workload on a GPU with random tensors, ready to be launched over and over.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "compiler/harrier_cuda.h"
#include "runtime/cuda/memory.h"

namespace harrier::bench {

using Json = nlohmann::ordered_json;

/// A tensor [batch, heads, length, dim] on the device, of 16-bit numbers.
struct DeviceTensor {
  cuda::DeviceMemory memory;
  CudaTensor tensor;
  int64_t heads = 0;
  int64_t length = 0;
  int64_t dim = 0;
};

/// What a backward launch has beside the tensors of the forward one.
struct GradientTensors {
  DeviceTensor d_out, d_q, d_k, d_v;
};

struct GpuCase {
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
  cuda::DeviceMemory lse;  // float32 [batch, heads, length]; of backward cases, as are the gradients
  GradientTensors gradients;
  CudaBinding bound;
  std::optional<CudaLaunch> launch;
  std::optional<CudaLaunch> tuned;
  double bind_us = 0;
  std::string error;  // why it cannot run; empty where it can
};

/// From the command "add" of bench_gpu. Throws InvalidInput.
GpuCase make_case(const Json& command);

/// Draws tensors, binds and prepares a case whose kernel is compiled. A backward case runs `forward`, the kernel of the
/// other direction, once: gradients are made of what that writes.
void bring_to_device(const Gpu& gpu, GpuCase& made, const std::optional<CudaKernel>& forward);

/// A launch of the case's tensors under another kernel and binding.
CudaLaunch prepare_launch(const GpuCase& made, const CudaKernel& kernel, const CudaBinding& bound);

bool is_backward(const GpuCase& made);

}  // namespace harrier::bench
