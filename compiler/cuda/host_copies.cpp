#include "compiler/cuda/host_copies.h"

#include <algorithm>
#include <cstring>

namespace harrier {
namespace {

constexpr int64_t kElementBytes = 2;

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

HostRows rows_of(const TensorView& tensor, bool packed) { return rows_of(tensor, packed, kElementBytes, true); }
HostRows lse_rows_of(const TensorView& lse, bool packed) { return rows_of(lse, packed, sizeof(float), false); }

std::vector<std::byte> gather(const HostRows& rows, int64_t device_row_bytes) {
  std::vector<std::byte> dense(static_cast<size_t>(rows.batches * rows.tokens * rows.heads * device_row_bytes));
  rows.visit(device_row_bytes, [&](const char* row, int64_t place) {
    std::memcpy(dense.data() + place, row, static_cast<size_t>(rows.row_bytes));
  });
  return dense;
}

void scatter(const cuda::OpenDevice& device, cuda::DevicePointer from, const HostRows& rows, int64_t device_row_bytes) {
  std::vector<std::byte> dense(static_cast<size_t>(rows.batches * rows.tokens * rows.heads * device_row_bytes));
  cuda::copy_to_host(device, dense, from);
  rows.visit(device_row_bytes, [&](char* row, int64_t place) {
    std::memcpy(row, dense.data() + place, static_cast<size_t>(rows.row_bytes));
  });
}

}  // namespace

DeviceTensor make_room(const cuda::DeviceHandle& device, const TensorView& tensor, bool packed) {
  constexpr int64_t kRowAlignment = 16;
  const HostRows rows = rows_of(tensor, packed);
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

DeviceLse make_lse(const cuda::DeviceHandle& device, const TensorView& lse, bool packed) {
  constexpr int64_t kBytes = sizeof(float);
  const HostRows rows = lse_rows_of(lse, packed);
  DeviceLse result;
  result.memory = cuda::DeviceMemory(device, std::max(rows.batches * rows.tokens * rows.heads * kBytes, kBytes));
  result.rows = {.data = result.memory.pointer(),
                 .batch_stride = rows.tokens * rows.heads,
                 .head_stride = 1,
                 .token_stride = rows.heads};
  return result;
}

DeviceTensor upload(const cuda::DeviceHandle& device, const TensorView& tensor, bool packed) {
  DeviceTensor result = make_room(device, tensor, packed);
  cuda::copy_to_device(*device, result.memory.pointer(), gather(rows_of(tensor, packed), result.row_bytes));
  return result;
}

DeviceLse upload_lse(const cuda::DeviceHandle& device, const TensorView& lse, bool packed) {
  DeviceLse result = make_lse(device, lse, packed);
  cuda::copy_to_device(*device, result.memory.pointer(), gather(lse_rows_of(lse, packed), sizeof(float)));
  return result;
}

void download(const cuda::OpenDevice& device, const DeviceTensor& from, const TensorView& tensor, bool packed) {
  scatter(device, from.memory.pointer(), rows_of(tensor, packed), from.row_bytes);
}

void download(const cuda::OpenDevice& device, const DeviceLse& from, const TensorView& lse, bool packed) {
  scatter(device, from.memory.pointer(), lse_rows_of(lse, packed), sizeof(float));
}

}  // namespace harrier
