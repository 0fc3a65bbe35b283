// CudaKernel::run_backward: arrays of the host through the device and back.
#include <algorithm>

#include "compiler/check_gradients.h"
#include "compiler/cuda/cuda_bound.h"
#include "compiler/cuda/host_copies.h"
#include "compiler/harrier_cuda.h"
#include "ir/error.h"
#include "runtime/cuda/stream.h"

namespace harrier {

RunReport CudaKernel::run_backward(const AttentionTensors& tensors, const AttentionGradients& gradients,
                                   const Bindings& bindings, const PassObserver& observer,
                                   const std::optional<CudaSchedule>& schedule) const {
  const Shape& shape = code_->compilation.workload.shape;
  if (shape.direction != Direction::kBackward) {
    throw InvalidInput("the kernel is compiled with direction forward; call run, or compile direction backward");
  }
  const cuda::DeviceHandle& device = code_->gpu.device;
  const Geometry geometry = check_tensors(tensors, shape);
  check_gradients(gradients, tensors, code_->workload.pattern, bindings);
  const bool packed = !tensors.cu_seqlens.empty();
  const CudaBinding bound = bind(bindings, geometry, {.packed = packed, .schedule = schedule});
  const cuda::CurrentContext current(*device);
  const DeviceTensor q = upload(device, tensors.q, packed);
  const DeviceTensor k = upload(device, tensors.k, packed);
  const DeviceTensor v = upload(device, tensors.v, packed);
  const DeviceTensor out = upload(device, tensors.out, packed);
  const DeviceLse lse = upload_lse(device, tensors.lse, packed);
  const DeviceTensor d_out = upload(device, gradients.d_out, packed);
  const DeviceTensor d_q = make_room(device, gradients.d_q, packed);
  const DeviceTensor d_k = make_room(device, gradients.d_k, packed);
  const DeviceTensor d_v = make_room(device, gradients.d_v, packed);
  CudaGradients on_device{.d_out = d_out.tensor, .d_q = d_q.tensor, .d_k = d_k.tensor, .d_v = d_v.tensor};
  std::map<std::string, cuda::DeviceMemory> arrays;
  for (const auto& [name, view] : gradients.arrays) {
    const int64_t bytes = element_count(view.shape) * static_cast<int64_t>(sizeof(float));
    const auto& memory = arrays.emplace(name, cuda::DeviceMemory(device, std::max<int64_t>(bytes, 4))).first->second;
    on_device.arrays[name] = memory.pointer();
  }

  const CudaLaunch launch = prepare_backward({q.tensor, k.tensor, v.tensor, out.tensor, lse.rows}, on_device, bound);
  cuda::OwnStream stream(device);
  RunReport report;
  report.kernel_us = stream.time([&] { launch.enqueue(stream.get()); });
  download(*device, d_q, gradients.d_q, packed);
  download(*device, d_k, gradients.d_k, packed);
  download(*device, d_v, gradients.d_v, packed);
  for (const auto& [name, view] : gradients.arrays) {
    const auto bytes = static_cast<size_t>(element_count(view.shape)) * sizeof(float);
    if (bytes == 0) continue;
    cuda::copy_to_host(*device, {static_cast<std::byte*>(view.data), bytes}, arrays.at(name).pointer());
  }
  report.passes = bound->times;
  report.rows = bound->built.order_length;
  report.split_rows = bound->built.split_count;
  report.tiles = count_tiles_of(*bound);
  if (observer.times != nullptr) *observer.times = bound->times;
  return report;
}

}  // namespace harrier
