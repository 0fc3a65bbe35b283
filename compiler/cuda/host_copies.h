// Tensors of the host on the device, and back.
#pragma once

#include "compiler/harrier_cuda.h"
#include "runtime/cuda/memory.h"

namespace harrier {

/// A tensor's copy on the device, dense as (batch, token, head, column), rows padded to 16 bytes.
struct DeviceTensor {
  cuda::DeviceMemory memory;
  CudaTensor tensor;
  int64_t row_bytes = 0;
};

/// A copy of an LSE, dense as (batch, token, head).
struct DeviceLse {
  cuda::DeviceMemory memory;
  CudaLse rows;
};

/// Room for a tensor of 16-bit elements, whatever is in it.
DeviceTensor make_room(const cuda::DeviceHandle& device, const TensorView& tensor, bool packed);
DeviceLse make_lse(const cuda::DeviceHandle& device, const TensorView& lse, bool packed);

DeviceTensor upload(const cuda::DeviceHandle& device, const TensorView& tensor, bool packed);
DeviceLse upload_lse(const cuda::DeviceHandle& device, const TensorView& lse, bool packed);

void download(const cuda::OpenDevice& device, const DeviceTensor& from, const TensorView& tensor, bool packed);
void download(const cuda::OpenDevice& device, const DeviceLse& from, const TensorView& lse, bool packed);

}  // namespace harrier
