// Tensor maps of the copy engine: how a box of a tensor is found in memory and laid out in shared memory.
#pragma once

#include "ir/workload.h"
#include "runtime/cuda/driver.h"

namespace harrier::cuda {

/// A 16-bit tensor of (batch, token, head, column); strides in elements, columns contiguous.
struct MappedTensor {
  DevicePointer data = 0;
  DataType dtype = DataType::kBFloat16;
  int64_t batches = 1;
  int64_t tokens = 0;  // of one batch row
  int64_t heads = 1;
  int64_t columns = 0;
  int64_t batch_stride = 0;
  int64_t token_stride = 0;
  int64_t head_stride = 0;
};

/// A box is `rows` tokens of one head, `columns` (32 or 64) wide, in shared memory swizzled over a row of it.
struct MapBox {
  int64_t rows = 0;
  int64_t columns = 0;
};

/// A ragged map: dimension 1 has 2^`ragged_log2` places and the base lies that many tokens early, so that what is past
/// a sequence's end is out of bounds (kernels/params.cuh, kRaggedTokens). Throws InvalidInput where the copy engine
/// cannot read the tensor: the stride or address, the limit, the remedy; DeviceError where the driver refuses.
TensorMapBytes encode_ragged_map(const Driver& driver, const MappedTensor& tensor, const MapBox& box, int ragged_log2,
                                 const char* what);

}  // namespace harrier::cuda
