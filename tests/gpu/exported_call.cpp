#include "exported_call.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "support/tensors.h"

namespace harrier::test {
namespace {

template <typename T>
std::vector<T> from_device(const cuda::DeviceMemory& memory, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  cuda::copy_to_host(*gpu().device, std::as_writable_bytes(std::span(values)), memory.pointer());
  return values;
}

harrier_kernels_type type_of(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return harrier_kernels_float32;
    case ElementType::kInt64:
      return harrier_kernels_int64;
    case ElementType::kInt32:
      return harrier_kernels_int32;
    default:
      return harrier_kernels_uint8;
  }
}

}  // namespace

Workload named(const char* name, Mask mask) {
  Workload workload = workload_of(std::move(mask), shape_of(kHeads, kHeads, kDim));
  workload.name = name;
  return workload;
}

Workload window_workload() { return named("window", window(100, 0) | sink(3)); }

Workload causal_workload() { return named("causal", causal()); }

std::vector<std::string> own() { return {target_of(gpu()).architecture}; }

Tensors::Tensors(uint64_t seed) {
  std::mt19937_64 random(seed);
  for (cuda::DeviceMemory* memory : {&q, &k, &v, &out}) {
    *memory = on_device(encode(random_values(random, kElements, DataType::kBFloat16), DataType::kBFloat16));
  }
  lse = on_device(std::vector<float>(kTokens * kHeads));
}

void Tensors::clear() const {
  overwrite(out, std::vector<uint16_t>(static_cast<size_t>(kElements), 0x3f80));
  overwrite(lse, std::vector<float>(static_cast<size_t>(kTokens * kHeads), 1));
}

Results Tensors::read(int64_t tokens) const {
  return {from_device<uint16_t>(out, tokens * kHeads * kDim), from_device<float>(lse, tokens * kHeads)};
}

CudaTensors Tensors::views(int64_t batch_tokens) const {
  const auto view = [&](const cuda::DeviceMemory& memory) {
    return CudaTensor{.data = memory.pointer(),
                      .batch_stride = batch_tokens * kHeads * kDim,
                      .token_stride = kHeads * kDim,
                      .head_stride = kDim};
  };
  return {
      .q = view(q),
      .k = view(k),
      .v = view(v),
      .out = view(out),
      .lse = {.data = lse.pointer(), .batch_stride = batch_tokens * kHeads, .head_stride = 1, .token_stride = kHeads}};
}

harrier_kernels_call call_of(int workload, const CudaDeviceInputs& inputs, const CudaTensors& tensors,
                             std::vector<harrier_kernels_array>& arrays) {
  harrier_kernels_call call{};
  for (const auto& [name, array] : inputs.arrays) {
    harrier_kernels_array given{.name = name.c_str(),
                                .data = array.data,
                                .type = type_of(array.type),
                                .rank = static_cast<int>(array.shape.size()),
                                .shape = {}};
    std::ranges::copy(array.shape, given.shape);
    arrays.push_back(given);
  }
  const auto view = [](const CudaTensor& tensor) {
    return harrier_kernels_tensor{tensor.data, tensor.batch_stride, tensor.token_stride, tensor.head_stride};
  };
  call.workload = workload;
  call.packed = inputs.packed ? 1 : 0;
  call.batch = inputs.batch;
  call.query_tokens = inputs.query_tokens;
  call.key_tokens = inputs.key_tokens;
  call.longest_query = inputs.longest_query;
  call.longest_key = inputs.longest_key;
  call.cu_query = inputs.cu_query;
  call.cu_key = inputs.cu_key;
  call.query_valid = inputs.query_valid;
  call.key_valid = inputs.key_valid;
  call.q = view(tensors.q);
  call.k = view(tensors.k);
  call.v = view(tensors.v);
  call.out = view(tensors.out);
  call.lse = {tensors.lse.data, tensors.lse.batch_stride, tensors.lse.head_stride, tensors.lse.token_stride};
  call.arrays = arrays.data();
  call.array_count = static_cast<int>(arrays.size());
  return call;
}

CCall::CCall(ExportedLibrary& exported, int workload, const CudaDeviceInputs& inputs, const CudaTensors& tensors)
    : call(call_of(workload, inputs, tensors, arrays)) {
  harrier_kernels_error error{};
  EXPECT_EQ(exported.workspace(exported.kernels(), &call, &call.workspace_bytes, &error), 0) << error.message;
  workspace = cuda::DeviceMemory(gpu().device, static_cast<int64_t>(call.workspace_bytes));
  call.workspace = workspace.pointer();
}

void launch(ExportedLibrary& exported, const CCall& call, cuda::Stream stream) {
  harrier_kernels_error error{};
  EXPECT_EQ(exported.launch(exported.kernels(), &call.call, stream, &error), 0) << error.message;
}

Results run_exported(ExportedLibrary& exported, const CCall& call, const Tensors& tensors, int64_t tokens) {
  tensors.clear();
  const cuda::OwnStream stream(gpu().device);
  launch(exported, call, stream.get());
  stream.synchronize();
  return tensors.read(tokens);
}

Results run_library(const CudaKernel& kernel, const CudaDeviceInputs& inputs, const Tensors& tensors, int64_t tokens,
                    const CudaBindOptions& options) {
  const CudaLaunch fixed =
      kernel.prepare(tensors.views(inputs.packed ? 0 : inputs.longest_query), kernel.bind_on_device(inputs, options));
  tensors.clear();
  const cuda::CurrentContext current(*gpu().device);
  const cuda::OwnStream stream(gpu().device);
  fixed.enqueue(stream.get());
  stream.synchronize();
  return tensors.read(tokens);
}

std::vector<int32_t> offsets_of(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> offsets = {0};
  for (const int64_t length : lengths) offsets.push_back(offsets.back() + static_cast<int32_t>(length));
  return offsets;
}

CudaDeviceInputs packed_inputs(const cuda::DeviceMemory& offsets, int64_t batch, int64_t longest) {
  CudaDeviceInputs inputs;
  inputs.batch = batch;
  inputs.query_tokens = inputs.key_tokens = kTokens;
  inputs.longest_query = inputs.longest_key = longest;
  inputs.cu_query = offsets.pointer();
  return inputs;
}

}  // namespace harrier::test
