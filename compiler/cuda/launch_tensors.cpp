#include "compiler/cuda/launch_tensors.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/error.h"
#include "runtime/cuda/tensor_map.h"

namespace harrier {
namespace {

constexpr int kRaggedLog2 = 27;
static_assert(kRaggedTokens == 1 << kRaggedLog2, "launcher and kernels must agree on ragged maps");

/// Documents whose ids fall have code of their own, which belongs to the same kernel; another thread may be making it.
bool belongs_to(const CudaBound& bound, const CudaCode& code) {
  if (bound.code.get() == &code) return true;
  const std::lock_guard lock(code.mutex);
  return bound.code == code.unsorted;
}

}  // namespace

void check_tensor(const CudaCode& code, const NamedTensor& named) {
  const CudaTensor& tensor = named.tensor;
  if (named.tokens > 0) cuda::check_device_pointer(*code.gpu.device, tensor.data, named.name);
  constexpr int64_t kCopyElements = 8;
  const int64_t strides[] = {tensor.batch_stride, tensor.token_stride, tensor.head_stride};
  for (const int64_t stride : strides) {
    if (stride >= 0 && stride % kCopyElements == 0) continue;
    throw InvalidInput(
        fmt::format("{} has a stride of {} elements, kernels copy {} at a time: copy it to a tensor whose "
                    "strides are multiples of {}",
                    named.name, stride, kCopyElements, kCopyElements));
  }
  constexpr uint64_t kAlignment = 16;
  if (tensor.data % kAlignment != 0) {
    throw InvalidInput(
        fmt::format("{} starts at {:#x}, kernels need a multiple of {}: copy it", named.name, tensor.data, kAlignment));
  }
}

TensorRows rows_of(const NamedTensor& named) {
  return {.data = reinterpret_cast<void*>(named.tensor.data),
          .batch_stride = named.tensor.batch_stride,
          .token_stride = named.tensor.token_stride,
          .head_stride = named.tensor.head_stride,
          .columns = static_cast<int>(named.columns)};
}

TensorMap map_of(const CudaCode& code, const NamedTensor& named, int64_t batches, int64_t box_rows) {
  const cuda::MappedTensor mapped{.data = named.tensor.data,
                                  .dtype = code.compilation.workload.shape.dtype,
                                  .batches = batches,
                                  .tokens = named.tokens,
                                  .heads = named.heads,
                                  .columns = named.columns,
                                  .batch_stride = named.tensor.batch_stride,
                                  .token_stride = named.tensor.token_stride,
                                  .head_stride = named.tensor.head_stride};
  const cuda::TensorMapBytes bytes =
      cuda::encode_ragged_map(code.gpu.device->driver(), mapped,
                              {.rows = box_rows, .columns = panel_columns(named.columns)}, kRaggedLog2, named.name);
  TensorMap map{};
  std::ranges::copy(bytes.words, map.words);
  return map;
}

void check_binding(const CudaBinding& binding, const CudaCode& code) {
  if (binding != nullptr && belongs_to(*binding, code)) return;
  throw InvalidInput("the binding is of another kernel: bind the arrays with the kernel that runs");
}

cuda::DeviceMemory make_workspace(const cuda::DeviceHandle& device, int64_t bytes) {
  cuda::DeviceMemory workspace(device, kCounterBytes + bytes);
  const cuda::Driver& driver = device->driver();
  cuda::check(driver, driver.fill_bytes(workspace.pointer(), 0, static_cast<size_t>(kCounterBytes), nullptr),
              "clearing the counters");
  cuda::check(driver, driver.stream_synchronize(nullptr), "clearing the counters");
  return workspace;
}

}  // namespace harrier
