// CudaKernel::run: arrays of the host through the device and back.
#include "compiler/cuda/cuda_bound.h"
#include "compiler/cuda/host_copies.h"
#include "compiler/harrier_cuda.h"
#include "compiler/passes/choose_plan.h"
#include "runtime/cuda/stream.h"

namespace harrier {
TileCounts count_tiles_of(const CudaBound& bound) {
  const Workload& workload = bound.code->compilation.workload;
  const CpuPlan tiles = choose_cpu_plan(workload, CpuTarget{});
  const TileMap map =
      classify_tiles(workload.pattern, workload.shape, bound.pattern, bound.geometry, tiles.tile_q, tiles.tile_k);
  return count_tiles(map, bound.geometry, workload.shape.heads);
}

RunReport CudaKernel::run(const AttentionTensors& tensors, const Bindings& bindings, const PassObserver& observer,
                          const std::optional<CudaSchedule>& schedule) const {
  const Shape& shape = code_->compilation.workload.shape;
  const cuda::DeviceHandle& device = code_->gpu.device;
  const Geometry geometry = check_tensors(tensors, shape);
  const bool packed = !tensors.cu_seqlens.empty();
  const CudaBinding bound = bind(bindings, geometry, {.packed = packed, .schedule = schedule});
  const cuda::CurrentContext current(*device);
  const DeviceTensor q = upload(device, tensors.q, packed);
  const DeviceTensor k = upload(device, tensors.k, packed);
  const DeviceTensor v = upload(device, tensors.v, packed);
  const DeviceTensor out = make_room(device, tensors.out, packed);
  const bool wants_lse = tensors.lse.data != nullptr;
  const DeviceLse lse = wants_lse ? make_lse(device, tensors.lse, packed) : DeviceLse{};
  const CudaLaunch launch = prepare({q.tensor, k.tensor, v.tensor, out.tensor, lse.rows}, bound);
  cuda::OwnStream stream(device);
  RunReport report;
  report.kernel_us = stream.time([&] { launch.enqueue(stream.get()); });
  download(*device, out, tensors.out, packed);
  if (wants_lse) download(*device, lse, tensors.lse, packed);
  report.passes = bound->times;
  report.rows = bound->built.order_length;
  report.split_rows = bound->built.split_count;
  report.tiles = count_tiles_of(*bound);
  if (observer.times != nullptr) *observer.times = bound->times;
  return report;
}

}  // namespace harrier
