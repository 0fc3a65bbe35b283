// Calls of an export in C beside calls of the library in C++, on the same tensors.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "exported_library.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"
#include "test_gpu.h"

namespace harrier::test {

/// Every test's tensors hold so many tokens, heads and columns of bf16.
constexpr int64_t kTokens = 512;
constexpr int64_t kHeads = 2;
constexpr int64_t kDim = 64;
constexpr int64_t kElements = kTokens * kHeads * kDim;
constexpr uint64_t kSeed = 20;

template <typename T>
cuda::DeviceMemory on_device(const std::vector<T>& values) {
  return cuda::copy_to_device(gpu().device, std::as_bytes(std::span(values)));
}

template <typename T>
void overwrite(const cuda::DeviceMemory& memory, const std::vector<T>& values) {
  cuda::copy_to_device(*gpu().device, memory.pointer(), std::as_bytes(std::span(values)));
}

Workload named(const char* name, Mask mask);
Workload window_workload();
Workload causal_workload();

/// The GPU's own kernels, as exports name their architecture.
std::vector<std::string> own();

/// What a kernel wrote, over ones.
struct Results {
  std::vector<uint16_t> out;
  std::vector<float> lse;
  bool operator==(const Results&) const = default;
};

/// q, k, v, out and lse of kTokens tokens, (token, head, column).
struct Tensors {
  cuda::DeviceMemory q, k, v, out, lse;

  explicit Tensors(uint64_t seed = kSeed);

  void clear() const;
  Results read(int64_t tokens) const;
  CudaTensors views(int64_t batch_tokens) const;
};

/// Without a workspace. The arrays' names live in `inputs`, and what else is said of them in `arrays`.
harrier_kernels_call call_of(int workload, const CudaDeviceInputs& inputs, const CudaTensors& tensors,
                             std::vector<harrier_kernels_array>& arrays);

/// A call in C of what the library is told in C++. The arrays' names live in `inputs`.
struct CCall {
  std::vector<harrier_kernels_array> arrays;  // first, for the call points at them
  harrier_kernels_call call{};
  cuda::DeviceMemory workspace;

  CCall(ExportedLibrary& exported, int workload, const CudaDeviceInputs& inputs, const CudaTensors& tensors);
  CCall(const CCall&) = delete;
  CCall& operator=(const CCall&) = delete;
};

void launch(ExportedLibrary& exported, const CCall& call, cuda::Stream stream);

Results run_exported(ExportedLibrary& exported, const CCall& call, const Tensors& tensors, int64_t tokens);

Results run_library(const CudaKernel& kernel, const CudaDeviceInputs& inputs, const Tensors& tensors, int64_t tokens,
                    const CudaBindOptions& options = {});

std::vector<int32_t> offsets_of(const std::vector<int64_t>& lengths);

CudaDeviceInputs packed_inputs(const cuda::DeviceMemory& offsets, int64_t batch, int64_t longest = kTokens);

}  // namespace harrier::test
