// CudaKernel::run: arrays of the host through the device and back.
#include <algorithm>
#include <cstring>

#include "compiler/cuda/cuda_bound.h"
#include "compiler/harrier_cuda.h"
#include "compiler/passes/choose_plan.h"
#include "runtime/cuda/stream.h"

namespace harrier {
namespace {

/// A host tensor's rows (of `row_bytes`) as (batch, token, head) places, whether packed or padded.
struct HostRows {
  char* data;
  int64_t batches;
  int64_t tokens;
  int64_t heads;
  int64_t row_bytes;
  int64_t batch_stride;  // in bytes
  int64_t token_stride;
  int64_t head_stride;

  template <typename Visit>
  void visit(int64_t device_row_bytes, Visit&& visit_row) const {
    int64_t place = 0;
    for (int64_t batch = 0; batch < batches; ++batch) {
      for (int64_t token = 0; token < tokens; ++token) {
        for (int64_t head = 0; head < heads; ++head, place += device_row_bytes) {
          visit_row(data + batch * batch_stride + token * token_stride + head * head_stride, place);
        }
      }
    }
  }
};

HostRows rows_of(const TensorView& tensor, bool packed, int64_t element_bytes, bool has_columns) {
  std::vector<int64_t> strides = tensor.strides;
  if (strides.empty()) {
    strides.assign(tensor.shape.size(), 1);
    for (size_t i = tensor.shape.size() - 1; i-- > 0;) strides[i] = strides[i + 1] * tensor.shape[i + 1];
  }
  const int64_t columns = has_columns ? tensor.shape.back() : 1;
  auto* data = static_cast<char*>(tensor.data);
  if (packed) {
    return {data,
            1,
            tensor.shape[0],
            tensor.shape[1],
            columns * element_bytes,
            0,
            strides[0] * element_bytes,
            strides[1] * element_bytes};
  }
  return {data,
          tensor.shape[0],
          tensor.shape[2],
          tensor.shape[1],
          columns * element_bytes,
          strides[0] * element_bytes,
          strides[2] * element_bytes,
          strides[1] * element_bytes};
}

/// A tensor's copy on the device, dense as (batch, token, head, column), rows padded to 16 bytes.
struct DeviceTensor {
  cuda::DeviceMemory memory;
  CudaTensor tensor;
  int64_t row_bytes = 0;
};

DeviceTensor make_room(const cuda::DeviceHandle& device, const HostRows& rows) {
  constexpr int64_t kRowAlignment = 16;
  constexpr int64_t kElementBytes = 2;
  DeviceTensor result;
  result.row_bytes = (rows.row_bytes + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  const int64_t row = result.row_bytes / kElementBytes;
  // A tensor without tokens still has an address.
  const int64_t bytes = std::max(rows.batches * rows.tokens * rows.heads * result.row_bytes, kRowAlignment);
  result.memory = cuda::DeviceMemory(device, bytes);
  result.tensor = {.data = result.memory.pointer(),
                   .batch_stride = rows.tokens * rows.heads * row,
                   .token_stride = rows.heads * row,
                   .head_stride = row};
  return result;
}

DeviceTensor upload(const cuda::DeviceHandle& device, const TensorView& tensor, bool packed) {
  const HostRows rows = rows_of(tensor, packed, 2, true);
  DeviceTensor result = make_room(device, rows);
  std::vector<std::byte> dense(static_cast<size_t>(rows.batches * rows.tokens * rows.heads * result.row_bytes));
  rows.visit(result.row_bytes, [&](const char* row, int64_t place) {
    std::memcpy(dense.data() + place, row, static_cast<size_t>(rows.row_bytes));
  });
  cuda::copy_to_device(*device, result.memory.pointer(), dense);
  return result;
}

void download(const cuda::OpenDevice& device, const DeviceTensor& from, const TensorView& tensor, bool packed,
              int64_t element_bytes, bool has_columns) {
  const HostRows rows = rows_of(tensor, packed, element_bytes, has_columns);
  std::vector<std::byte> dense(static_cast<size_t>(rows.batches * rows.tokens * rows.heads * from.row_bytes));
  cuda::copy_to_host(device, dense, from.memory.pointer());
  rows.visit(from.row_bytes, [&](char* row, int64_t place) {
    std::memcpy(row, dense.data() + place, static_cast<size_t>(rows.row_bytes));
  });
}

}  // namespace

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
  const DeviceTensor out = make_room(device, rows_of(tensors.out, packed, 2, true));
  const bool wants_lse = tensors.lse.data != nullptr;
  DeviceTensor lse;
  CudaLse lse_rows;
  if (wants_lse) {
    const HostRows rows = rows_of(tensors.lse, packed, sizeof(float), false);
    lse.row_bytes = sizeof(float);
    lse.memory = cuda::DeviceMemory(
        device, std::max<int64_t>(rows.batches * rows.tokens * rows.heads * lse.row_bytes, lse.row_bytes));
    lse_rows = {.data = lse.memory.pointer(),
                .batch_stride = rows.tokens * rows.heads,
                .head_stride = 1,
                .token_stride = rows.heads};
  }
  const CudaLaunch launch = prepare({q.tensor, k.tensor, v.tensor, out.tensor, lse_rows}, bound);
  cuda::OwnStream stream(device);
  RunReport report;
  report.kernel_us = stream.time([&] { launch.enqueue(stream.get()); });
  download(*device, out, tensors.out, packed, 2, true);
  if (wants_lse) download(*device, lse, tensors.lse, packed, sizeof(float), false);
  report.passes = bound->times;
  report.rows = bound->built.order_length;
  report.split_rows = bound->built.split_count;
  // In the CPU's tiles: they divide every block size.
  const CpuPlan tiles = choose_cpu_plan(code_->compilation.workload, CpuTarget{});
  const TileMap map =
      classify_tiles(code_->compilation.workload.pattern, shape, bound->pattern, geometry, tiles.tile_q, tiles.tile_k);
  report.tiles = count_tiles(map, geometry, shape.heads);
  if (observer.times != nullptr) *observer.times = bound->times;
  return report;
}

}  // namespace harrier
